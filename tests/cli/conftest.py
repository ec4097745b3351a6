"""One small run for all tests of the command line, and the command line in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import DOTS, Cli, Result, dotted, hashes, invoke

TINY: dict[str, Any] = {
    "name": "tiny",
    "description": "for the tests",
    "seeds": [0, 1],
    "device": "cpu",
    "threads": 1,
    "data": {
        "id": "digits",
        "hold_out": [8, 9],
        "near": ["held_out"],
        "far": ["uniform_noise", "gaussian_noise"],
        "shift": ["rotate:45"],
    },
    "model": {"name": "small_cnn", "width": 8},
    "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.05},
    "signals": {
        "nervecode": {"recipe": "bits"},
        "nervecode_v0_1_1": {"recipe": "v0_1_1", "detach": True},
    },
    "bench": {
        "detectors": ["msp", "maxlogit", "energy", "entropy", "gen", "mahalanobis", "rmd", "knn",
                      "gmm", "pnml", "vim"],
        "limit_eval": 50,
        "accuracy_gate": 0.1,
    },
}  # fmt: skip


@pytest.fixture(autouse=True)
def dots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a small bench is its pictures: `benched` has them, the others have dots instead.

    `nervecode plot` draws as ever, and so do commands in processes of their own.
    """

    monkeypatch.setattr("nervecode.viz.stages.KINDS", DOTS)


@pytest.fixture(scope="session")
def cli() -> Cli:
    return invoke


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    return hashes


@pytest.fixture(scope="session")
def tiny() -> dict[str, Any]:
    return json.loads(json.dumps(TINY))  # type: ignore[no-any-return]


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny config as a file; JSON is YAML."""
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(json.dumps(TINY))
    return path


@pytest.fixture(scope="session")
def benched(tiny_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """`nervecode bench --json`, run once."""
    folder = tmp_path_factory.mktemp("finished")
    return invoke("bench", "--config", tiny_file, "--outdir", folder, "--json")


@pytest.fixture(scope="session")
def finished(benched: Result) -> Path:
    """The run directory of `benched`: to be read, not to be written."""
    assert benched.status == 0, benched.err
    return Path(json.loads(benched.out)["run_dir"])


@pytest.fixture
def run_copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    root = tmp_path / "runs" / finished.name
    shutil.copytree(finished, root)
    return root


@pytest.fixture(scope="session")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose classes each have more than 99 calibration inputs; to be read alone."""
    folder = tmp_path_factory.mktemp("blobs")
    config = TINY | {
        "name": "blobs",
        "seeds": [0],
        "data": {"id": "blobs", "hold_out": [3], "far": ["held_out"], "calibration_fraction": 0.4},
        "model": {"name": "mlp", "width": 16, "depth": 1},
        "signals": {"nervecode": {"recipe": "bits"}},
        "bench": {"detectors": ["msp"], "accuracy_gate": 0.1},
    }
    (folder / "blobs.yaml").write_text(json.dumps(config))
    with dotted():
        done = invoke("bench", "--config", folder / "blobs.yaml", "--outdir", folder, "--json")
    assert done.status == 0, done.err
    return Path(json.loads(done.out)["run_dir"])
