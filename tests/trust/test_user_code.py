"""A run of a user's own network: its code runs where it is trusted, unchanged, and nowhere else."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import user_code
from tests.command_line import Cli
from tests.trust.conftest import SMALL

MODULE = "nervecode_trust_module"
SOURCE = """
from pathlib import Path
from torch import nn
Path(__file__).with_name("ran").touch()
def build(shape, num_classes):
    return nn.Sequential(nn.Linear(shape[0], 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a module and a config that names it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    sys.modules.pop(MODULE, None)
    (tmp_path / f"{MODULE}.py").write_text(SOURCE)
    (tmp_path / "mine.yaml").write_text(
        json.dumps(SMALL | {"model": {"name": f"python:{MODULE}:build"}, "seeds": [0]})
    )
    return tmp_path


def forgotten(place: Path) -> None:
    sys.modules.pop(MODULE, None)
    (place / "ran").unlink(missing_ok=True)


@pytest.mark.slow
def test_a_run_of_own_code_is_read_without_running_it(
    place: Path, cli: Cli, tree: Callable[[Path], dict[str, str]]
) -> None:
    refused = cli("bench", "--config", "mine.yaml")
    assert refused.status == 2
    assert "with --trust-code" in refused.err
    assert not (place / "runs").exists()
    assert not (place / "ran").exists()
    assert cli("bench", "--config", "mine.yaml", "--trust-code").status == 0
    (root,) = (place / "runs").iterdir()
    code = user_code(RunDir(root).meta)
    assert code is not None
    assert (code["file"], len(code["sha256"])) == (f"{MODULE}.py", 64)

    forgotten(place)
    before = tree(root)
    commands = {
        "score": ("--input", "uniform_noise", "--output", "s.csv"),
        "bench": (),
        "calibrate": (),
        "verify": ("--reproduce",),
    }
    for command, options in commands.items():
        done = cli(command, root, *options)
        assert (done.status, "--trust-code" in done.err) == (2, True), command
    assert tree(root) == before
    for command in ("report", "verify"):  # files alone, though the page tells of the date
        assert cli(command, root).status == 0, command
    assert not (place / "ran").exists()
    for command, options in commands.items():
        assert cli(command, root, *options, "--trust-code").status == 0, command
    assert (place / "ran").exists()
    # Another command of the same process is not trusted.
    assert cli("score", root, "--input", "uniform_noise").status == 2

    forgotten(place)
    (place / f"{MODULE}.py").write_text(SOURCE + "# another\n")
    for command, options in commands.items():
        done = cli(command, root, *options, "--trust-code", *["--force"] * (command == "score"))
        assert done.status == 4, command
        assert "has changed since the run was trained with it" in done.err
    assert not (place / "ran").exists()


@pytest.mark.slow
def test_an_exported_network_is_scored_without_its_code(place: Path, cli: Cli) -> None:
    pytest.importorskip("onnxscript", reason="the extra `export` brings it")
    assert cli("bench", "--config", "mine.yaml", "--trust-code").status == 0
    (root,) = (place / "runs").iterdir()
    forgotten(place)
    export = ("export", root, "--output", "model.onnx")
    refused = cli(*export)
    assert (refused.status, "with --trust-code" in refused.err) == (2, True)
    assert not (place / "model.onnx").exists() and not (place / "ran").exists()
    done = cli(*export, "--trust-code")
    assert done.status == 0, done.err
    np.save("x.npy", np.random.default_rng(0).normal(0, 5, (50, 2)).astype(np.float32))
    given = ("--input", "x.npy", "--output")
    assert cli("score", root, *given, "run.csv", "--trust-code").status == 0

    forgotten(place)
    (place / f"{MODULE}.py").unlink()
    done = cli("score", "model.onnx", *given, "graph.csv")
    assert done.status == 0, done.err
    tables = [list(csv.DictReader((place / f).open())) for f in ("run.csv", "graph.csv")]
    for key in ("surprise", "p_value", "prediction"):
        expected, found = (np.array([float(row[key]) for row in table]) for table in tables)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


def test_a_sweep_hands_the_trust_to_its_cells(place: Path, cli: Cli) -> None:
    told = cli("sweep", "mine.yaml", "--launcher", "print", "--outdir", "s")
    assert "run-cell" in told.out
    assert "--trust-code" not in told.out
    told = cli("sweep", "mine.yaml", "--launcher", "print", "--outdir", "s", "--trust-code")
    assert "--trust-code" in told.out
    assert not (place / "ran").exists()


@pytest.mark.slow
def test_training_begins_with_weights_and_trains_the_head_alone(place: Path, cli: Cli) -> None:
    torch.manual_seed(1)
    theirs = {"0.weight": torch.randn(8, 2), "0.bias": torch.randn(8)}
    save_file(theirs, place / "theirs.safetensors")
    settings = ["-o", "model.weights=theirs.safetensors", "-o", "train.freeze=backbone",
                "-o", "model.mean=[0.0]", "-o", "model.std=[1.0]"]  # fmt: skip
    done = cli("bench", "--config", "mine.yaml", "--trust-code", *settings)
    assert done.status == 0, done.err
    assert "its head begins anew: 3 classes here, in the file none" in done.err
    (root,) = (place / "runs").iterdir()
    run = RunDir(root)
    trained = load_file(run.paths.checkpoint(0))
    for name, tensor in theirs.items():
        assert torch.equal(trained[f"model.net.{name}"], tensor)
    assert len(run.meta["stages"]["train/seed_0"]["inputs"]["weights"]) == 64
    # Its figures say what they are, wherever they stand.
    assert run.meta["transfer"] is True
    for file in ("tables.md", "report.html"):
        assert "TRANSFER" in (root / file).read_text(), file
    shutil.copytree(root, root.with_name("another"))
    assert cli("compare", root, root.with_name("another")).out.count("TRANSFER") >= 2
    # What is trained needs the weights no more; what is to be trained again does.
    (place / "theirs.safetensors").unlink()
    again = cli("bench", root, "--trust-code")
    assert again.status == 0, again.err
    assert "seed 0: train was done before" in again.err
    more = cli("bench", root, "--trust-code", "-o", "train.epochs=3")
    assert (more.status, "theirs.safetensors: no such file" in more.err) == (2, True)


def test_weights_that_do_not_fit_are_told_before_anything_is_written(place: Path, cli: Cli) -> None:
    save_file({"0.weight": torch.zeros(8, 2)}, place / "half.safetensors")
    weights = ["-o", "model.weights=half.safetensors"]
    for options in ([], ["--dry-run"]):
        done = cli("train", "--config", "mine.yaml", "--trust-code", *weights, *options)
        assert done.status == 2
        assert "1 of the network's 4 tensors fit, 1 do not: the file lacks '0.bias'" in done.err
    assert not (place / "runs").exists()


AUXILIARY = """
class Net(nn.Sequential):
    def forward(self, x):
        return (super().forward(x),) * 2 if self.training else super().forward(x)
def auxiliary(shape, num_classes):
    return Net(nn.Linear(shape[0], 8), nn.ReLU(), nn.Linear(8, num_classes))
"""


def test_what_cannot_be_trained_is_told_before_a_run_is_made_and_is_imported(
    place: Path, cli: Cli
) -> None:
    (place / f"{MODULE}.py").write_text(SOURCE + AUXILIARY)
    name = ["--config", "mine.yaml", "--trust-code", "-o", f"model.name=python:{MODULE}:auxiliary"]
    for options in ([], ["--dry-run"]):
        done = cli("train", *name, *options)
        assert (done.status, "in training mode the network gives tuple" in done.err) == (2, True)
    assert not (place / "runs").exists()
    weights = {"0.weight": torch.zeros(8, 2), "0.bias": torch.zeros(8)}
    weights |= {"2.weight": torch.zeros(3, 8), "2.bias": torch.zeros(3)}
    save_file(weights, place / "theirs.safetensors")
    alone = ["-o", "signals.nervecode_v0_1_1=null"]
    done = cli("import-checkpoint", "theirs.safetensors", *name, *alone)
    assert done.status == 0, done.err
