"""`nervecode train`: made, gone on with, and what `meta.json` says of it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from nervecode.lab.machine.device import choose_device, set_determinism


@pytest.fixture(autouse=True)
def any_algorithm() -> Any:
    yield
    set_determinism(choose_device("cpu"), wanted=False)


def trained(cli: Any, tiny_file: Path, folder: Path, *options: str) -> Path:
    found = cli("train", "--config", tiny_file, "--outdir", folder, *options)
    assert found.status == 0, found.err
    (run,) = folder.iterdir()
    return run


def test_a_run_is_gone_on_with(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    run = trained(cli, tiny_file, tmp_path, "--seeds", "0")
    before = (run / "checkpoints/seed_0.safetensors").read_bytes()
    found = cli("train", run, "--seeds", "0,1", "-o", "threads=1")
    assert found.status == 0, found.err
    assert "seed 0: train was done before" in found.err
    assert found.out.splitlines() == [f"{run}/checkpoints/seed_{s}.safetensors" for s in (0, 1)]
    assert (run / "checkpoints/seed_0.safetensors").read_bytes() == before
    assert json.loads((run / "meta.json").read_text())["seeds"] == [0, 1]
    straight = trained(cli, tiny_file, tmp_path / "straight")
    one, other = (load_file(root / "checkpoints/seed_1.safetensors") for root in (run, straight))
    assert all(bool((one[key] == other[key]).all()) for key in other)


def test_a_run_and_a_preset_exclude_each_other(cli: Any, finished: Path) -> None:
    found = cli("train", finished, "--preset", "digits")
    assert found.status == 2
    assert "train: give RUN alone, or --preset NAME, or --config FILE" in found.err
    assert "train: give one of --preset NAME, --config FILE and RUN" in cli("train").err


@pytest.mark.slow
def test_the_guarantee_that_held_is_noted(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    plain = trained(cli, tiny_file, tmp_path / "plain", "--seeds", "0")
    strict = trained(cli, tiny_file, tmp_path / "strict", "--seeds", "0", "--deterministic")
    told = [json.loads((run / "meta.json").read_text())["determinism"] for run in (plain, strict)]
    assert [one["deterministic"] for one in told] == [False, True]
    assert "with as many threads" in told[0]["guarantee"]
    assert "deterministic algorithms only" in told[1]["guarantee"]
    assert "deterministic: true" in (strict / "config.yaml").read_text()


# Checkpoints from elsewhere


SHA256 = "ab" * 32


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "bench"])
def test_a_label_of_the_checkpoint_is_noted(
    command: str, cli: Any, tiny_file: Path, tmp_path: Path
) -> None:
    wrong = cli(command, "--config", tiny_file, "--outdir", tmp_path, "--checkpoint-sha256", "AB")
    assert wrong.status == 2
    assert "SHA-256: found 'AB', allowed: 64 hexadecimal digits" in wrong.err
    assert not list(tmp_path.iterdir())
    found = cli(command, "--config", tiny_file, "--outdir", tmp_path, "--seeds", "0",
                "-o", "bench.detectors=[]", "--checkpoint-uri", "https://example.org/x.pt",
                "--checkpoint-sha256", SHA256)  # fmt: skip
    assert found.status == 0, found.err
    (run,) = tmp_path.iterdir()
    told = json.loads((run / "meta.json").read_text())["checkpoint"]
    assert told == {"uri": "https://example.org/x.pt", "sha256": SHA256}


@pytest.fixture
def unlearned(tiny: dict[str, Any], tmp_path: Path) -> Path:
    """A config whose codebooks are all fitted after training."""
    path = tmp_path / "unlearned.yaml"
    bench = {"detectors": ["msp"], "limit_eval": 50}
    path.write_text(json.dumps(tiny | {"signals": {"nervecode": {}}, "bench": bench}))
    return path


def theirs(run: Path, path: Path) -> Path:
    """The classifier of a run, as someone else would give it away."""
    state = load_file(run / "checkpoints/seed_0.safetensors")
    save_file({k.removeprefix("model."): v for k, v in state.items() if "model." in k}, path)
    return path


def test_a_new_run_has_an_imported_classifier_alone(
    cli: Any, unlearned: Path, tmp_path: Path
) -> None:
    """The others of the config would be trained from scratch, and averaged with it."""
    file = tmp_path / "x.safetensors"
    assert (
        cli("train", "--config", unlearned, "--seeds", "3", "--outdir", tmp_path / "a").status == 0
    )
    state = load_file(next((tmp_path / "a").glob("*/checkpoints/seed_3.safetensors")))
    save_file({k.removeprefix("model."): v for k, v in state.items() if "model." in k}, file)
    new = tmp_path / "b"
    found = cli(
        "import-checkpoint", file, "--config", unlearned, "-o", "seeds=[4,5]", "--outdir", new
    )
    assert found.status == 0, found.err
    (run,) = new.iterdir()
    assert json.loads((run / "meta.json").read_text())["seeds"] == [4]


def test_an_imported_classifier_is_benched_like_the_one_it_is(
    cli: Any, unlearned: Path, tmp_path: Path
) -> None:
    common = ("--config", unlearned, "--seeds", "0", "--outdir")
    assert cli("bench", *common, tmp_path / "one").status == 0
    (one,) = (tmp_path / "one").iterdir()
    file = theirs(one, tmp_path / "x.safetensors")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    given = ("import-checkpoint", file, "--config", unlearned, "--outdir", tmp_path / "other")
    assert "found SHA-256" in cli(*given, "--seed", "0", "--sha256", SHA256).err
    assert not (tmp_path / "other").exists()
    found = cli(*given, "--seed", "0", "--sha256", digest, "--uri", "https://example.org")
    assert found.status == 0, found.err
    assert "of ID train are classified right" in found.err
    (other,) = (tmp_path / "other").iterdir()
    told = json.loads((other / "meta.json").read_text())["imported"]["0"]
    assert told == {"file": "x.safetensors", "uri": "https://example.org", "sha256": digest}
    benched = cli("bench", other)
    assert benched.status == 0, benched.err
    assert "seed 0: train was done before" in benched.err
    assert (other / "results.csv").read_bytes() == (one / "results.csv").read_bytes()
    changed = cli("bench", other, "-o", "train.epochs=3")
    assert changed.status == 2
    assert "seed 0: its checkpoint was imported for other settings; import it again" in changed.err


def test_learned_codebooks_are_not_imported(
    cli: Any, tiny_file: Path, run_copy: Path, tmp_path: Path
) -> None:
    file = theirs(run_copy, tmp_path / "x.safetensors")
    found = cli("import-checkpoint", file, run_copy, "--seed", "1")
    assert found.status == 2
    assert "signals.nervecode_v0_1_1: is learned with the classifier" in found.err
    assert "-o signals.nervecode_v0_1_1=null leaves it out" in " ".join(found.err.split())
    assert "nothing.pt: no such file" in cli("import-checkpoint", "nothing.pt", run_copy).err
    assert "--seed: found 7, allowed: 0, 1" in cli("import-checkpoint", file, run_copy,
                                                   "--seed", "7").err  # fmt: skip
