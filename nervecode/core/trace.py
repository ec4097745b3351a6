"""CodingTrace: what one layer said of one batch."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from nervecode.core.call import UNKNOWN_CALL, Call
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
        places: of a code by position the places that an input has, (T,) or (H, W): there are as
            many rows as inputs and places together, one input after another.
        call: what is known of the call that it is of.
    """

    surprise: Tensor
    code: SoftCode
    vector: Tensor
    regret: Tensor | None = None
    places: tuple[int, ...] = ()
    call: Call = UNKNOWN_CALL

    @property
    def inputs(self) -> int:
        """The number of inputs; of rows, where a code by position reads rows."""
        places = math.prod(self.places)  # none of an empty sequence
        return self.surprise.shape[0] // places if places else self.call.size or 0
