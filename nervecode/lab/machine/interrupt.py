"""Interrupts: SIGINT and SIGTERM wait for the end of a step, and come at once the second time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Stopping = Callable[[], bool]


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


class _Pending:
    """The signal that waits for the end of a step. A process has one, as it has signals."""

    deferred = False
    interrupt: Interrupted | None = None


def interrupt(number: int, frame: FrameType | None) -> None:
    """The handler of SIGINT and SIGTERM.

    Raises:
        Interrupted: at once, unless a block of `deferred` is to be let finish its step.
    """
    if not _Pending.deferred or _Pending.interrupt is not None:
        raise Interrupted(number)
    _Pending.interrupt = Interrupted(number)


@contextmanager
def deferred(agree: Callable[[int], int] = lambda number: number) -> Iterator[Stopping]:
    """Within the block, the first signal only makes the given function say True.

    The block is to end soon after; the interrupt is raised then. A second signal is raised at once.

    Args:
        agree: signal (0: none) -> the one that any of several processes got, by which all of them
            stop after the same step.
    """
    _Pending.deferred, _Pending.interrupt = True, None
    agreed = 0

    def stopping() -> bool:
        nonlocal agreed
        agreed = agree(_Pending.interrupt.number if _Pending.interrupt is not None else agreed)
        return agreed > 0

    try:
        yield stopping
    finally:
        _Pending.deferred = False
    if _Pending.interrupt is not None or agreed:
        raise _Pending.interrupt or Interrupted(agreed)
