"""CodingTrace: what one layer said of one batch."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from nervecode.core.code import SoftCode


@dataclass(frozen=True)
class CodingTrace:
    """One tapped layer's reading of a batch of B inputs.

    Attributes:
        surprise: (B,) the layer's surprise: bits for a fitted code, nats for recipe `v0_1_1`.
        code: the SoftCode behind it.
        vector: (B, D) the vector that was coded.
        regret: (B,) bits lost by believing in the classes, B_class - B_background; None for a
            learned codebook, which has no background.
    """

    surprise: Tensor
    code: SoftCode
    vector: Tensor
    regret: Tensor | None = None
