"""Log: what a command says while it works on a run, with the time, in the run's `run.log`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path

_file: ContextVar[Path | None] = ContextVar("run.log", default=None)
writes: ContextVar[bool] = ContextVar("writes", default=True)
"""Whether this process writes the log: not where it follows the first of several."""


# Control characters but tabs and line ends, bytes that are no UTF-8, marks that turn text round.
UNPRINTABLE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """A text that says what it holds and does nothing to a terminal, whatever a file is named."""
    return UNPRINTABLE.sub(lambda match: repr(match[0])[1:-1], text)


def log(message: str) -> None:
    """Append lines to the log of the run at hand, if there is one.

    A log that cannot be written stops no run: what matters is written elsewhere, and complains.
    """
    path = _file.get()
    if path is None or not writes.get():
        return
    time = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.writelines(f"{time}  {line}\n" for line in printable(message).splitlines())


@contextmanager
def logged(run: Path, command: str) -> Iterator[None]:
    """Log what is said within the block to `run.log`, with the command and the error, if any."""
    token = _file.set(run / "run.log")
    try:
        log(command)
        yield
    except BaseException as error:
        log(f"Error: {error or type(error).__name__}")
        raise
    finally:
        _file.reset(token)
