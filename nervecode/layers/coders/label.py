"""LabelCoder: the head as one more layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from nervecode.core import BatchShape, CodingTrace, LabelCode, Reducer
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.core.label import LabelDistribution
from nervecode.errors import InputError
from nervecode.layers.coder import Coder, without_autocast


class LabelCoder(Coder):
    """The head as one more layer: its surprise is the regret of the label, in bits.

    Args:
        codes: the fitted label code, see `nervecode.core.LabelCode`.
    """

    def __init__(self, codes: LabelCode) -> None:
        super().__init__(Reducer("mean"))
        self.codes = codes

    def activation(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """(features, logits): what the head was given, and what it returned."""
        given = [tensor for tensor in inputs if isinstance(tensor, Tensor)]
        returned = isinstance(output, Tensor) and output.ndim == 2
        if not given or given[0].ndim != 2 or not returned:
            raise InputError("a label code needs a head that takes (B, D) and returns (B, classes)")
        return given[0], output

    def forward(self, activation: Any, batch: BatchShape = UNKNOWN_SHAPE) -> CodingTrace:
        """Code a batch of (features, logits)."""
        features, logits = activation
        with without_autocast(features.device.type):
            dtype = self.codes.factors.dtype
            # The class is read when it is asked for: of a copy, which no one else changes.
            vector, logits = self.reduce(features, batch).to(dtype), logits.to(dtype, copy=True)
            return CodingTrace(self.codes(vector, logits), LabelDistribution(logits), vector)

    def code(self, vector: Tensor) -> CodingTrace:
        """Not for vectors alone: a label code reads logits too."""
        raise InputError("a label code reads (features, logits), not a vector")

    def spec(self) -> dict[str, Any]:
        """The sizes of the code, as plain JSON values."""
        dim, rank = self.codes.factors.shape
        return {"kind": "label", "dim": dim, "rank": rank, "reducer": self.reducer.spec()}
