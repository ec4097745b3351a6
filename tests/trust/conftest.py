"""One small run of all stages, and the command line in this process."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import DOTS, Cli, Result, dotted, hashes, invoke

SMALL: dict[str, Any] = {
    "name": "small",
    "seeds": [0, 1],
    "device": "cpu",
    "threads": 1,
    "data": {"id": "blobs", "hold_out": [3], "near": ["held_out"], "far": ["uniform_noise"]},
    "model": {"name": "mlp", "width": 8, "depth": 2},
    "train": {"epochs": 2, "batch_size": 64, "learning_rate": 0.02},
    "signals": {
        "nervecode": {"recipe": "bits"},
        "nervecode_v0_1_1": {"recipe": "v0_1_1", "detach": True},
    },
    "bench": {"detectors": ["energy", "knn"]},
}


@pytest.fixture(autouse=True)
def dots(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test here looks at a picture: dots in their place, as in `processes`."""
    monkeypatch.setattr("nervecode.viz.stages.KINDS", DOTS)


def checked(*arguments: object) -> Result:
    """`nervecode ARGUMENTS`, which says in words whatever goes wrong."""
    found = invoke(*arguments)
    assert "Traceback" not in found.err
    assert "unexpected)" not in found.err
    return found


def files(root: Path) -> dict[str, str]:
    """Path -> SHA-256 of every file below a folder."""
    return {name: digest for name, digest in hashes(root).items() if digest != "folder"}


@pytest.fixture(scope="session")
def cli() -> Cli:
    return checked


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    return files


@pytest.fixture(scope="session")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small config as a file; JSON is YAML."""
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    path.write_text(json.dumps(SMALL))
    return path


@pytest.fixture(scope="session")
def finished(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of all stages: to be read, not to be written."""
    folder = tmp_path_factory.mktemp("finished")
    with dotted():
        status, _, err = checked("bench", "--config", config, "--outdir", folder)
    assert status == 0, err
    return next(folder.iterdir())


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))
