"""What the README of 0.1.1 names still runs, by the same names and flags."""

from __future__ import annotations

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FILES = (
    "examples/quickstart_mlp.py", "examples/quickstart_cnn.py", "examples/ood_smoke_test.py",
    "docs/quickstart.md", "docs/combo.md", "docs/overhead.md", "scripts/train_minimal.py",
    "scripts/ablate_grid.py", "scripts/run_ood_matrix.sh", "benchmarks/ood/simple.py",
    "benchmarks/ood/cifar_resnet18.py", "configs/v0_1_1", "CONTRIBUTING.md", "CHANGELOG.md",
)  # fmt: skip
SETTINGS = (
    "--epochs", "20", "--device", "cpu", "--agg", "max", "--layers", "first_linear", "--K", "16",
    "--coding-dim", "8", "--beta-length", "1.0", "--beta-entropy", "1.0", "--beta-distance", "1.0",
    "--quantile", "0.90", "--json",
)  # fmt: skip


def run(*command: str, status: int = 0, **environment: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == status, done.stderr
    return done


@pytest.mark.parametrize("name", FILES)
def test_what_it_names_is_there(name: str) -> None:
    assert (ROOT / name).exists()


def test_the_page_maps_every_name() -> None:
    page = (ROOT / "docs/migration.md").read_text(encoding="utf-8")
    for name in FILES[:10]:
        assert name.removesuffix(".py").replace("benchmarks/ood/", "benchmarks.ood.") in page, name


def module(patch: pytest.MonkeyPatch, name: str, *arguments: str) -> None:
    """`python -m NAME ARGUMENTS`, in this process: torch is loaded already."""
    patch.setattr(sys, "argv", [name, *arguments])
    runpy.run_module(name, run_name="__main__")


@pytest.mark.slow
def test_simple_takes_the_recommended_settings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module(monkeypatch, "benchmarks.ood.simple", *SETTINGS)
    figures = json.loads(capsys.readouterr().out)
    assert figures["accuracy"] > 0.97
    assert figures["auroc"] > 0.99
    assert figures["flagged_id"] == pytest.approx(0.1, abs=0.03)
    assert figures["flagged_ood"] > 0.99


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        ("simple", ("--agg", "median"), "invalid choice: 'median'"),
        ("simple", ("--K", "0"), "argument --K: found '0', allowed: whole numbers from 1"),
        ("simple", ("--epochs", "-1"), "argument --epochs: found '-1', allowed: whole numbers"),
        ("simple", ("--quantile", "1.5"), "--quantile: found '1.5', allowed: above 0, below 1"),
        ("simple", ("--quantile", "x"), "argument --quantile: found 'x', allowed: above 0"),
        ("simple", ("--device", "tpu"), "argument --device: found 'tpu', allowed here: cpu"),
        ("simple", ("--device", "cuda:99"), "--device: found 'cuda:99', allowed here: cpu"),
        ("simple", ("--layers", "nolayer"), "nolayer"),
        # The CIFAR runner is `bench` by its old name.
        ("cifar_resnet18", ("--preset", "dmo"), "preset: unknown 'dmo'; did you mean 'demo'"),
    ],
)
def test_an_unknown_choice_is_refused(
    name: str,
    arguments: tuple[str, ...],
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as caught:
        module(monkeypatch, f"benchmarks.ood.{name}", *arguments)
    assert caught.value.code == 2
    assert told in capsys.readouterr().err


def test_train_minimal_prints_its_figures(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = str(ROOT / "scripts/train_minimal.py")
    monkeypatch.setattr(sys, "argv", [script])
    monkeypatch.setattr(sys, "path", sys.path.copy())  # to which the script adds
    runpy.run_path(script, run_name="__main__")
    lines = dict(line.split() for line in capsys.readouterr().out.splitlines())
    assert float(lines["auroc"]) > 0.9
    assert float(lines["flagged_id"]) == pytest.approx(0.1, abs=0.03)


@pytest.mark.slow
def test_the_fast_matrix(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = run(
        "bash", "scripts/run_ood_matrix.sh", "--outdir", str(tmp_path),
        "train.epochs=1", "signals.nervecode.num_codes=4,8,16", FAST="1", PATH=path,
    )  # fmt: skip
    rows = Path(done.stdout.strip()).read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3  # a header, and two of the three values
