"""Tables: what of the calibration inputs a score is made from, on any device."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.core.code import LN2
from nervecode.scoring.code_length import CodeLengthScore
from nervecode.scoring.mondrian import Mondrian
from nervecode.scoring.over_layers import OVER_LAYERS
from nervecode.scoring.p_values import COMBINERS
from nervecode.scoring.percentiles import Steps, number_below, p_values_among
from nervecode.scoring.readings import LayerReadings

CODE_LENGTH = "code_length"
METHODS = (CODE_LENGTH, *OVER_LAYERS, *COMBINERS)


class Tables(NamedTuple):
    """What of the calibration inputs a score is made from.

    Attributes:
        code_length: for the method of that name.
        by_layer: (L, n) sorted surprises of each layer, for combined p-values.
        decision: p-value and percentile by score; None while the scores are made.
        groups: the scores by predicted class or with weights, if that was asked for.
    """

    code_length: CodeLengthScore | None
    by_layer: Tensor | None
    decision: Steps | None = None
    groups: Mondrian | None = None

    @classmethod
    def of(cls, readings: LayerReadings, method: str) -> Tables:
        """Those of finite readings, without scores."""
        code_length = by_layer = None
        if method == CODE_LENGTH:
            code_length = CodeLengthScore.fit(readings)
        elif method in COMBINERS:
            by_layer = readings.surprise.T.double().contiguous().sort(dim=1).values
        return cls(code_length, by_layer)

    def held_out(self, readings: LayerReadings, method: str) -> Tensor:
        """(n,) float64 scores of the calibration inputs themselves, each as if it were new.

        What was standardised on an input finds it less surprising than one of the same kind that
        it never saw: each input is scored by what the others give.
        """
        if self.code_length is not None:
            return self.code_length.held_out(readings)
        if self.by_layer is None:
            return self.scores(readings, method)
        # As many as are as surprising, itself among them; on the grid on which new inputs lie.
        n = self.by_layer.shape[1]
        as_surprising = n - number_below(self.by_layer, readings.surprise.T.double())
        return _bits(COMBINERS[method]((as_surprising.double() / (n + 1)).T))

    def scores(self, readings: LayerReadings, method: str) -> Tensor:
        """(N,) float64 scores; infinite where a reading is not finite."""
        if self.code_length is not None:
            return self.code_length(readings)
        if self.by_layer is not None:
            p_values = p_values_among(self.by_layer, readings.surprise.T.double())
            scores = _bits(COMBINERS[method](p_values.T))
        else:
            scores = OVER_LAYERS[method](readings.surprise).double()
        return scores.masked_fill(~readings.finite, torch.inf)


def _bits(p_values: Tensor) -> Tensor:
    """-log2, to 32 binary places: p-values that tie must do so by any library's logarithm."""
    # In ONNX, log2 and factors have float32's ln 2; what is divided by a tensor has float64's.
    bits = p_values.log() / p_values.new_tensor(-LN2)
    return (bits * 2.0**32).round() / 2.0**32


def moved(value: Any, device: torch.device) -> Any:
    """Nested tuples of tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(*[moved(v, device) for v in value]) if isinstance(value, tuple) else value
