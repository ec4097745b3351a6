"""Interrupts: SIGINT and SIGTERM wait for the end of a step, and come at once the second time."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Stopping = Callable[[], bool]
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(BaseException):
    """SIGINT or SIGTERM. Not a KeyboardInterrupt, to which typer has an answer of its own.

    Attributes:
        exit_status: 130 or 143.
        command: the command that goes on where a run stopped; None while there is no run.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.exit_status = 128 + number
        self.command: str | None = None

    def __str__(self) -> str:
        return f"interrupted by {signal.Signals(self.number).name}"


class _Pending:
    """The signal that came last, until it has ended something. A process has one, as signals."""

    deferred = False
    interrupt: Interrupted | None = None


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT and SIGTERM.

    Raises:
        Interrupted: at once, unless a block of `deferred` is to be let finish its step.
    """
    again = _Pending.interrupt is not None
    _Pending.interrupt = _Pending.interrupt or Interrupted(number)
    if again or not _Pending.deferred:
        raise Interrupted(number)


def listen() -> None:
    """Let SIGINT and SIGTERM raise `Interrupted` from now on, but those ignored, as under nohup."""
    forget()
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, interrupt)


def forget() -> None:
    """Take signals of before for what they are: a new command has had none."""
    _Pending.deferred, _Pending.interrupt = False, None


def raise_swallowed() -> None:
    """Raise what was raised before and ended nothing, as within a bare `except` of a library."""
    pending, _Pending.interrupt = _Pending.interrupt, None
    if pending is not None:
        raise pending


@contextmanager
def deferred(agree: Callable[[int], int] = lambda number: number) -> Iterator[Stopping]:
    """Within the block, the first signal only makes the given function say True.

    The block is to end soon after; the interrupt is raised then. A second signal is raised at once,
    and one that was lost before the block.

    Args:
        agree: signal (0: none) -> the one that any of several processes got, by which all of them
            stop after the same step.
    """
    raise_swallowed()
    _Pending.deferred = True
    agreed = 0

    def stopping() -> bool:
        nonlocal agreed
        agreed = agree(_Pending.interrupt.number if _Pending.interrupt is not None else agreed)
        return agreed > 0

    try:
        yield stopping
    finally:
        _Pending.deferred = False
    raise_swallowed()
    if agreed:
        raise Interrupted(agreed)
