"""What is known of a call of a model: while it runs, and by the traces that are of it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class BatchShape(NamedTuple):
    """How many inputs a call has, and which of their positions are real.

    Attributes:
        sizes: what B may be; empty where nothing tells.
        mask: (B, ...) true at real positions, or None where all are.
        tentative: whether the mask may be one of something else: a layer that it does not fit is
            read as if there were none.
    """

    sizes: tuple[int, ...] = ()
    mask: Tensor | None = None
    tentative: bool = False

    def batch_dim(self, shape: tuple[int, ...]) -> int | None:
        """0 or 1, whichever dimension of a shape is as large as the batch; None if not just one."""
        fitting = [dim for dim in (0, 1) if shape[dim] in self.sizes]
        return fitting[0] if len(fitting) == 1 else None

    def __str__(self) -> str:
        return " or ".join(map(str, self.sizes)) or "an unknown number"


UNKNOWN_SHAPE = BatchShape()


class Call(NamedTuple):
    """A call of a model, as it was when it was made.

    Attributes:
        size: B; None where nothing tells.
        mask: (B, ...) true at the real positions of the call, where it tells.
        masked: whether the call told of padding, of all its sequences or of one.
        tentative: whether all that it told may be of something else.
        predicted: (B,) classes, where the calibration needs them from the output.
        remark: why the codes did not hold for the call, in words; empty where they did, as far as
            was looked.
        codes: which codes read it; empty where nothing is known of the call.
        weights: the hash of the weights that these were made for; None where it is not known.
        looked: whether the model's weights were looked at, as they are not within a graph.
        precision: of autocast where the layers ran, such as `bfloat16`, or `own` without; empty
            where it is not known.
    """

    size: int | None = None
    mask: Tensor | None = None
    masked: bool = False
    tentative: bool = False
    predicted: Tensor | None = None
    remark: str = ""
    codes: str = ""
    weights: str | None = None
    looked: bool = True
    precision: str = ""


UNKNOWN_CALL = Call()


OWN_PRECISION = "own"


def precision_on(device_type: str) -> str:
    """The precision of autocast on a kind of device; `own` where it is switched off."""
    available = torch.amp.is_autocast_available(device_type)  # of another, asking is an error
    if not (available and torch.is_autocast_enabled(device_type)):
        return OWN_PRECISION
    return str(torch.get_autocast_dtype(device_type)).removeprefix("torch.")


def is_recomputed() -> bool:
    """Whether backward makes this call, as a checkpoint does to compute once more what it dropped.

    Such a call is no further one: it saves for backward what the first one saved, and no more.
    """
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() >= 0
