"""Source: inputs to score, read a batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor

SKIPS = "; score --skip-bad leaves it out"  # ends what is said of an input


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
