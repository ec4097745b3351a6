"""Readings: what is kept of the layers' traces, and what scores are made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError

LABEL = ":label"  # what ends the name of a label code
ROUNDING = 1e-5  # of bits of float32, whose terms are larger than their sum, and 1e-5 bits
LABEL_ROUNDING = 1e-4  # of the label's regret, as far as the logits' rounding goes


def readings(name: str, trace: CodingTrace) -> Tensor:
    """What calibration keeps of a layer's trace.

    (B, 2) surprise and regret of a fitted code, (B, 2) regret and predicted class of a label code
    (`NAME:label`), (B, 1) surprise of a learned code.
    """
    if name.endswith(LABEL):
        parts = [trace.surprise, trace.code.best_index.to(trace.surprise)]
    else:
        parts = [trace.surprise] if trace.regret is None else [trace.surprise, trace.regret]
    return torch.stack(parts, dim=1).detach()


def finite_readings(layers: Mapping[str, Tensor]) -> Tensor:
    """(N,) whether all `readings` of an input are finite."""
    return torch.cat(list(layers.values()), dim=1).isfinite().all(1)


class LayerReadings(NamedTuple):
    """What M layers read of N inputs.

    Attributes:
        surprise: (N, M) of every layer.
        fitted: (N, L, 2) code length and regret of the layers with fitted codes.
        label: (N,) regret of the label; None without a label code.
        classes: (N,) int64 classes that its head predicts; None without a label code.
    """

    surprise: Tensor
    fitted: Tensor
    label: Tensor | None = None
    classes: Tensor | None = None

    @classmethod
    def of(cls, traces: Mapping[str, CodingTrace], surprise: Tensor) -> LayerReadings:
        """Those of traces, whose (N, M) surprises are stacked already."""
        parts = [
            part
            for name, trace in traces.items()
            if trace.regret is not None and not name.endswith(LABEL)
            for part in (trace.surprise, trace.regret)
        ]
        labels = [trace for name, trace in traces.items() if name.endswith(LABEL)]
        known = (labels[0].surprise, labels[0].code.best_index) if labels else ()
        return cls(surprise, _in_pairs(surprise, parts), *known)

    @classmethod
    def read(cls, layers: Mapping[str, Tensor]) -> LayerReadings:
        """Those that `readings` tell, by layer."""
        surprise = torch.stack([rows[:, 0] for rows in layers.values()], dim=1)
        parts = [
            part
            for name, pair in layers.items()
            if pair.shape[1] == 2 and not name.endswith(LABEL)
            for part in pair.unbind(1)
        ]
        labels = [pair for name, pair in layers.items() if name.endswith(LABEL)]
        known = (labels[0][:, 0], labels[0][:, 1].nan_to_num().long()) if labels else ()
        return cls(surprise, _in_pairs(surprise, parts), *known)

    @property
    def finite(self) -> Tensor:
        """(N,) whether all that is read of an input is finite."""
        finite = self.surprise.isfinite().all(1)
        if not self.fitted.shape[1]:  # ONNX Runtime reshapes no tensor without elements
            return finite
        return finite & self.fitted.isfinite().flatten(1).all(1)

    def raised(self) -> LayerReadings:
        """These, by what rounding can be: what ties with them is then not above them.

        An activation differs in its last digits with the size of its batch. Where many inputs read
        alike, one that does too would else pass for more surprising than all of them.
        """
        return self._replace(
            surprise=_above(self.surprise),
            fitted=_above(self.fitted),
            label=None if self.label is None else self.label.double() * (1 + LABEL_ROUNDING),
        )

    def predicted(self, given: Tensor | None) -> Tensor:
        """(N,) predicted classes, of the label code or as given.

        Raises:
            InputError: neither is there.
        """
        if self.classes is not None:
            return self.classes
        if given is None:
            raise InputError(
                "calibrate by_class: found no predicted classes, allowed: codes with a label code "
                "(fit(label_code=True)) or a model that returns (B, K) logits"
            )
        return given.long()


def _above(bits: Tensor) -> Tensor:
    return bits.double() + ROUNDING * (1 + bits.double().abs())


def _in_pairs(surprise: Tensor, parts: Sequence[Tensor]) -> Tensor:
    """(N, L, 2) of the 2 L vectors (N,) of N inputs that have the given surprises."""
    if not parts:
        return surprise.new_empty((surprise.shape[0], 0, 2))
    return torch.stack(list(parts), dim=1).view(surprise.shape[0], len(parts) // 2, 2)
