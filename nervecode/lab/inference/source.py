"""Source: inputs to score, read a batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import Tensor

from nervecode.lab.machine.progress import Progress

T = TypeVar("T")

SKIPS = "; --skip-bad leaves it out"  # ends what is said of an input


@dataclass(frozen=True)
class Inputs:
    """(N, *shape) float inputs, a name for each, and what was skipped, with the reason."""

    inputs: Tensor
    ids: list[str]
    skipped: tuple[str, ...] = ()


class Source(ABC):
    """Inputs in `units`: pieces of a fixed order that are read alone, and never cut.

    Whoever reads a range of units gets the same batches as one who reads all, and so the same
    bits from the network. Memory does not grow with their number.

    Attributes:
        units: how many there are.
        identity: plain values that tell these inputs from others, wherever they lie.
        remarks: what a user should know of them, such as how many values are missing.
    """

    units: int
    identity: dict[str, Any]
    remarks: tuple[str, ...] = ()

    @abstractmethod
    def read(self, unit: int) -> Iterator[Inputs]:
        """The batches of a unit, each of at most `EVAL_BATCH` inputs.

        Raises:
            InputError: something unreadable, of a wrong shape, or not finite.
        """


def readable(
    source: Source, units: range, *, title: str, progress: Progress, tell: bool = True
) -> Iterator[Inputs]:
    """The batches of a range of units, without those of which nothing could be read.

    The next batch is read while the network sees this one.

    Args:
        source: of which memory holds two batches at a time.
        units: which.
        title: what `progress` calls the work.
        progress: told how far it is.
        tell: name what is left out.
    """
    batches = ((unit, batch) for unit in units for batch in source.read(unit))
    done = units.start
    progress.start(title, len(units))
    for unit, batch in ahead(batches):
        for name in batch.skipped if tell else ():
            progress.tell(f"skipped: {name}")
        if batch.ids:
            yield batch
        progress.advance(unit + 1 - done)
        done = unit + 1


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made by a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item
