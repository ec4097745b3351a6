"""One small run for all tests of the command line, and the command line in this process."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import json
import shutil
import signal
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nervecode.cli.main import run
from nervecode.viz import KINDS

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


@dataclass(frozen=True)
class Result:
    """What a command left: its exit status, standard output and standard error."""

    status: int
    out: str
    err: str


Cli = Callable[..., Result]


def invoke(*arguments: object) -> Result:
    """Run `nervecode ARGUMENTS` in this process; its signal handlers are taken off again."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = run([str(argument) for argument in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Result(status, out.getvalue(), err.getvalue())


def hashes(root: Path) -> dict[str, str]:
    """Path -> SHA-256 of everything below a folder; folders count too."""
    return {
        path.relative_to(root).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(root.rglob("*"))
    }


DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture(autouse=True)
def dots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Most of a small bench is its pictures: `benched` has them, the others have dots instead.

    `nervecode plot` draws as ever, and so do commands in processes of their own.
    """

    def dot(kind: str, run: Path, *, seed: int) -> Path:
        path = run / "plots" / f"{kind}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(DOT)
        return path

    kinds = {kind: functools.partial(dot, kind) for kind in KINDS}
    monkeypatch.setattr("nervecode.viz.stages.KINDS", kinds)


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
