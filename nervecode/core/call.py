"""Call: what is known of the call of a model that traces are of."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Call(NamedTuple):
    """A call of a model, as it was when it was made.

    Attributes:
        size: B; None where nothing tells.
        mask: (B, ...) true at the real positions of the call, where it tells.
        masked: whether the call told of padding, of all its sequences or of one.
        predicted: (B,) classes, where the calibration needs them from the output.
        remark: why the codes did not hold for the call, in words; empty where they did, as far as
            was looked.
        codes: which codes read it; empty where nothing is known of the call.
        weights: the hash of the weights that these were made for; None where it is not known.
        looked: whether the model's weights were looked at, as they are not within a graph.
    """

    size: int | None = None
    mask: Tensor | None = None
    masked: bool = False
    predicted: Tensor | None = None
    remark: str = ""
    codes: str = ""
    weights: str | None = None
    looked: bool = True


UNKNOWN = Call()
