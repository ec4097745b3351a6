"""One small run of all stages, and the command line in this process."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import pytest

from nervecode.cli.main import run

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

Result = tuple[int, str, str]
Cli = Callable[..., Result]


def invoke(*arguments: object) -> Result:
    """Exit status, standard output and standard error of `nervecode ARGUMENTS`."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = run([str(argument) for argument in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "Traceback" not in err.getvalue()
    assert "unexpected)" not in err.getvalue()
    return status, out.getvalue(), err.getvalue()


def hashes(root: Path) -> dict[str, str]:
    """Path -> SHA-256 of every file below a folder, by the standard library alone."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {
        path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


@pytest.fixture(scope="session")
def cli() -> Cli:
    return invoke


@pytest.fixture(scope="session")
def tree() -> Callable[[Path], dict[str, str]]:
    return hashes


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
    status, _, err = invoke("bench", "--config", config, "--outdir", folder)
    assert status == 0, err
    (found,) = folder.iterdir()
    return found


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be written to."""
    return Path(shutil.copytree(finished, tmp_path / finished.name))
