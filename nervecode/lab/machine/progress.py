"""Progress: what a stage says while it works. The command line shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class Progress:
    """Says nothing. The command line passes a subclass that shows it."""

    def part(self, parts: Sequence[str], number: int, whose: str) -> None:
        """Part `number`, from 1, of all `parts` begins; those of one name take about as long.

        A number past the last says that all are done.
        """

    def start(self, title: str, total: int) -> None:
        """A piece of work of `total` steps begins."""

    def advance(self, steps: int = 1, **shown: float | str) -> None:
        """Some steps are done; `shown` are figures worth showing."""

    def epoch(
        self, seed: int, row: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], *, of: int
    ) -> None:
        """An epoch of a seed is trained: its metrics, and a row of diagnostics for each layer."""
        figures = {"accuracy": f"{row['accuracy']:.1%}", "loss": row["loss"]}
        self.advance(0, epoch=f"{row['epoch']} of {of}", **figures)

    def tell(self, remark: str) -> None:
        """Something that the user should know."""

    def track(self, title: str, items: Iterable[T], total: int) -> Iterator[T]:
        """Yield items, advancing by one after each."""
        self.start(title, total)
        for item in items:
            yield item
            self.advance()


_READING: ContextVar[Progress] = ContextVar("reading")  # few of the many that load take long


@contextmanager
def showing_reading(progress: Progress) -> Iterator[None]:
    """Tell `progress` of data that are read within the block."""
    token = _READING.set(progress)
    try:
        yield
    finally:
        _READING.reset(token)


def reading() -> Progress:
    """What is told while data are read; it says nothing outside of `showing_reading`."""
    return _READING.get(Progress())
