"""Log: what a command says while it works on a run, with the time, in the run's `run.log`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from datetime import datetime
from pathlib import Path

_file: ContextVar[Path | None] = ContextVar("run.log", default=None)
writes: ContextVar[bool] = ContextVar("writes", default=True)
"""Whether this process writes the log: not where it follows the first of several."""


def log(message: str) -> None:
    """Append lines to the log of the run at hand, if there is one.

    A log that cannot be written stops no run: what matters is written elsewhere, and complains.
    """
    path = _file.get()
    if path is None or not writes.get():
        return
    time = datetime.now().astimezone().isoformat(sep=" ", timespec="seconds")
    with suppress(OSError), path.open("a", encoding="utf-8") as file:
        file.writelines(f"{time}  {line}\n" for line in message.splitlines())


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
