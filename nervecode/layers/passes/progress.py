"""Progress of a pass over a loader: a line on standard error with rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")

OFTEN, SELDOM = (
    0.2,
    30.0,
)  # seconds between lines: on a terminal, which overwrites them, and in a file


def length_of(loader: Any) -> int | None:
    """How many batches a loader has; None where it does not know."""
    try:
        return len(loader)
    except (TypeError, NotImplementedError):  # a DataLoader has a length only if its data have
        return None


def shown(batches: Iterable[T], title: str, total: int | None) -> Iterator[T]:
    """The batches as they come; says how many of `total` are done, and which rate they have.

    On a terminal the line is written over; elsewhere a new one comes every half minute, and one at
    the end.
    """
    terminal = sys.stderr.isatty()
    began = told = time.monotonic()
    done = 0
    for batch in batches:
        yield batch
        done += 1
        now = time.monotonic()
        if now - told >= (OFTEN if terminal else SELDOM):
            told = now
            _write(_line(title, done, total, now - began), over=terminal)
    _write(_line(title, done, total, time.monotonic() - began), over=terminal)
    if terminal:
        _write("", over=False)


def _line(title: str, done: int, total: int | None, seconds: float) -> str:
    rate = done / max(seconds, 1e-9)
    if total is None:
        return f"{title}: {done} batches, {rate:.1f} a second, {_clock(seconds)}"
    left = f"{_clock((total - done) / rate)} left" if done < total else f"{_clock(seconds)} in all"
    return f"{title}: {done} of {total} batches, {rate:.1f} a second, {left}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _write(line: str, *, over: bool) -> None:
    sys.stderr.write(f"\r{line}\x1b[K" if over else f"{line}\n")
    sys.stderr.flush()
