"""Tables: what of the calibration inputs a score is made from, on any device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.scoring.aggregate import AGGREGATIONS
from nervecode.scoring.code_length import LABEL, CodeLengthScore
from nervecode.scoring.mondrian import Mondrian
from nervecode.scoring.p_values import COMBINERS
from nervecode.scoring.percentiles import number_below, p_values_among

CODE_LENGTH = "code_length"


class Tables(NamedTuple):
    """What of the calibration inputs a score is made from.

    Attributes:
        scores: (n,) their sorted aggregates; empty while these are made.
        code_length: for the method of that name.
        by_layer: (L, n) sorted surprises of each layer, for combined p-values.
        groups: the scores by predicted class or with weights, if that was asked for.
    """

    scores: Tensor
    code_length: CodeLengthScore | None
    by_layer: Tensor | None
    groups: Mondrian | None = None

    @classmethod
    def of(cls, layers: Mapping[str, Tensor], method: str) -> Tables:
        """Those of the finite `readings` of some layers, without scores."""
        code_length = by_layer = None
        if method == CODE_LENGTH:
            code_length = CodeLengthScore.fit(*_terms(layers))
        elif method in COMBINERS:
            by_layer = _surprises(layers).double().sort(dim=1).values
        return cls(torch.empty(0, dtype=torch.float64), code_length, by_layer)

    def held_out(self, pairs: Mapping[str, Tensor], method: str) -> Tensor:
        """(n,) float64 scores of the calibration inputs themselves, each as if it were new.

        What was standardised on an input finds it less surprising than one of the same kind that
        it never saw: each input is scored by what the others give.
        """
        if self.code_length is not None:
            return self.code_length.held_out(*_terms(pairs))
        if self.by_layer is None:
            return self.aggregate(pairs, method)
        # As many as are as surprising, itself among them; on the grid on which new inputs lie.
        n = self.by_layer.shape[1]
        as_surprising = n - number_below(self.by_layer, _surprises(pairs))
        return -COMBINERS[method]((as_surprising.double() / (n + 1)).T).log2()

    def aggregate(self, pairs: Mapping[str, Tensor], method: str) -> Tensor:
        """(N,) float64 scores from `readings` of the calibrated layers, in their order."""
        unknown = ~finite_readings(pairs)
        return self._aggregate(pairs, unknown, method).masked_fill(unknown, torch.inf)

    def _aggregate(self, pairs: Mapping[str, Tensor], unknown: Tensor, method: str) -> Tensor:
        if self.code_length is not None:
            bits, regret, label = _terms(pairs)
            label = None if label is None else _filled(label, unknown)
            return self.code_length(_filled(bits, unknown), _filled(regret, unknown), label)
        pairs = {name: _filled(pair, unknown) for name, pair in pairs.items()}
        if self.by_layer is not None:
            p_values = p_values_among(self.by_layer, _surprises(pairs))
            return -COMBINERS[method](p_values.T).log2()
        result = AGGREGATIONS[method]({name: pair[:, 0] for name, pair in pairs.items()})
        assert result is not None
        return result.surprise.double()


def moved(value: Any, device: torch.device) -> Any:
    """Nested tuples of tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(*[moved(v, device) for v in value]) if isinstance(value, tuple) else value


def finite_readings(pairs: Mapping[str, Tensor]) -> Tensor:
    """(N,) whether all readings of an input are finite."""
    return torch.cat(list(pairs.values()), dim=1).isfinite().all(1)


def _filled(readings: Tensor, unknown: Tensor) -> Tensor:
    """(N, ...) readings with 0 for the (N,) unknown inputs."""
    return readings.masked_fill(unknown.view(-1, *[1] * (readings.ndim - 1)), 0.0)


def _surprises(pairs: Mapping[str, Tensor]) -> Tensor:
    """(L, N) the surprise of each layer."""
    return torch.stack([pair[:, 0] for pair in pairs.values()])


def _terms(pairs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """(N, L) code lengths, (N, L) regrets, and (N, 2) label readings where there are any."""
    coded = torch.stack([pair for name, pair in pairs.items() if not name.endswith(LABEL)], dim=1)
    labels = [pair for name, pair in pairs.items() if name.endswith(LABEL)]
    return coded[..., 0], coded[..., 1], labels[0] if labels else None
