"""The command line in this process, what it leaves on disk, and pictures that cost nothing."""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

import pytest

from nervecode.cli.main import run
from nervecode.viz import KINDS


class Result(NamedTuple):
    """What a command left: its exit status, standard output and standard error."""

    status: int
    out: str
    err: str


Cli = Callable[..., Result]


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def invoke(*arguments: object) -> Result:
    """Run `nervecode ARGUMENTS` in this process; its signal handlers are taken off again."""
    # As from a terminal, though whoever runs the tests in the background has SIGINT ignored.
    numbers = (signal.SIGINT, signal.SIGTERM)
    handlers = {number: signal.signal(number, signal.SIG_DFL) for number in numbers}
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            status = run([str(argument) for argument in arguments])
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    return Result(status, out.getvalue(), err.getvalue())


def hashes(root: Path) -> dict[str, str]:
    """Path -> SHA-256 of everything below a folder, by the standard library; folders count too."""
    return {
        path.relative_to(root).as_posix(): (
            hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "folder"
        )
        for path in sorted(root.rglob("*"))
    }


def stamps(root: Path) -> dict[str, object]:
    """Path -> inode, time and size of every file below a folder; folders count too.

    Tells a file that was written again, be it with the same bytes, for a tenth of what `hashes`
    takes.
    """
    found: dict[str, object] = {}
    for folder, folders, files in os.walk(root):
        found |= {os.path.join(folder, name): "folder" for name in folders}
        for path in (os.path.join(folder, name) for name in files):
            is_file, stat = os.path.isfile(path), os.lstat(path)
            found[path] = (stat.st_ino, stat.st_mtime_ns, stat.st_size) if is_file else "folder"
    return {os.path.relpath(path, root): stamp for path, stamp in found.items()}


DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def draw_dot(kind: str, run: Path, *, seed: int) -> Path:
    """A picture's file under its name, with one dot in it."""
    path = run / "plots" / f"{kind}_seed_{seed}.png"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(DOT)
    return path


DOTS = {kind: functools.partial(draw_dot, kind) for kind in KINDS}
"""To stand in for `nervecode.viz.stages.KINDS`: most of a small bench is its pictures."""


@contextmanager
def dotted() -> Iterator[None]:
    """Within it, runs have dots for pictures: for what is made once, before a test begins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nervecode.viz.stages.KINDS", DOTS)
        yield
