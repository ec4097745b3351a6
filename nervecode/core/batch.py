"""BatchShape: what the arguments of a call tell of the inputs in it."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class BatchShape(NamedTuple):
    """How many inputs a call has, and which of their positions are real.

    Attributes:
        sizes: what B may be; empty where nothing tells.
        mask: (B, ...) true at real positions, or None where all are.
    """

    sizes: tuple[int, ...] = ()
    mask: Tensor | None = None

    def batch_dim(self, shape: tuple[int, ...]) -> int | None:
        """0 or 1, whichever dimension of a shape is as large as the batch; None if not just one."""
        fitting = [dim for dim in (0, 1) if shape[dim] in self.sizes]
        return fitting[0] if len(fitting) == 1 else None

    def __str__(self) -> str:
        return " or ".join(map(str, self.sizes)) or "an unknown number"


UNKNOWN = BatchShape()
