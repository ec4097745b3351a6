"""LayerCalibration: the ID distribution of every layer's surprise, and of their aggregate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.scoring.aggregate import (
    AGGREGATIONS,
    AggregatedSurprise,
    finite_inputs,
    stack_layers,
)
from nervecode.scoring.code_length import LABEL, CodeLengthScore, readings
from nervecode.scoring.p_values import COMBINERS, combine_p_values
from nervecode.scoring.percentiles import (
    ALPHA,
    EmpiricalPercentileCalibrator,
    conformal_p_values,
)

CODE_LENGTH = "code_length"
METHODS = (CODE_LENGTH, *AGGREGATIONS, *COMBINERS)


class LayerCalibration:
    """The ID calibration scores of every layer, and of their aggregate.

    Attributes:
        layers: name -> `readings` of all calibration inputs.
        known: those of the inputs that are finite in every layer, which are calibrated on.
        num_samples: n, the number of these.
        smallest_alpha: 1 / (n + 1); at an alpha below it nothing is flagged.

    Args:
        layers: name -> `readings` of the calibration inputs.
        method: how layers are aggregated: `code_length`, `mean`, `max`, `total`, or `fisher`,
            `simes`, `harmonic`: -log2 of the combined p-values of the layers, in bits.

    Raises:
        InputError: an unknown method, or fewer than two finite inputs.
        NotReadyError: `code_length` for learned codes, which have no regret.
    """

    def __init__(self, layers: Mapping[str, Tensor], method: str) -> None:
        if method not in METHODS:
            allowed = did_you_mean(method, METHODS)
            raise InputError(f"calibrate method: found {method!r}; {allowed}")
        if method == CODE_LENGTH and any(pair.shape[1] < 2 for pair in layers.values()):
            raise NotReadyError("calibrate: code_length needs fitted codes; call fit(loader) first")
        self.layers = {name: pair.cpu() for name, pair in layers.items()}
        self.method = method
        self.known = _finite_rows(self.layers)
        self.calibrator = EmpiricalPercentileCalibrator()
        state = self.calibrator.fit(self.aggregate(self.known), aggregation=method)
        self.num_samples, self.smallest_alpha = state.num_samples, state.smallest_alpha

    def remarks(self) -> list[str]:
        """What keeps this calibration from meaning what was asked for, in words."""
        n, total = self.num_samples, len(next(iter(self.layers.values())))
        remarks = []
        if n < total:
            remarks.append(f"{total - n} of {total} inputs have NaN or infinity, and are left out")
        if self.smallest_alpha > ALPHA:
            remarks.append(
                f"{n} inputs give no p-value below 1/{n + 1} = {self.smallest_alpha:.2g}, so that "
                f"a smaller alpha flags nothing; {math.ceil(1 / ALPHA) - 1} serve alpha {ALPHA}"
            )
        return remarks

    def score(self, traces: Mapping[str, CodingTrace]) -> AggregatedSurprise:
        """Aggregate traces as the calibration scores were, with percentile and p-value.

        Raises:
            InputError: traces of other layers than were calibrated.
        """
        pairs = {name: readings(name, trace) for name, trace in traces.items()}
        if set(pairs) != set(self.layers):
            raise InputError(
                f"layers: found {sorted(pairs)}, calibrated were {sorted(self.layers)}"
            )
        by_layer = stack_layers(traces)
        finite_inputs(by_layer, traces)
        scores = self.aggregate(pairs)
        return AggregatedSurprise(
            scores.to(by_layer),
            by_layer,
            tuple(traces),
            self.method,
            calibrated=(self.calibrator.percentiles(scores), self.calibrator.p_values(scores)),
        )

    def aggregate(self, pairs: Mapping[str, Tensor]) -> Tensor:
        """(N,) float64 scores from `readings` of every calibrated layer; infinite for NaN."""
        finite = _finite(pairs)
        scores = self._aggregate({n: p.where(finite[:, None], 0.0) for n, p in pairs.items()})
        return scores.masked_fill(~finite.cpu(), torch.inf)

    def _aggregate(self, pairs: Mapping[str, Tensor]) -> Tensor:
        if self.method in COMBINERS:
            return -combine_p_values(self.layer_p_values(pairs), self.method).log2()
        if self.method != CODE_LENGTH:
            result = AGGREGATIONS[self.method]({n: p[:, 0] for n, p in pairs.items()})
            assert result is not None
            return result.surprise.double().cpu()
        score = CodeLengthScore(*_terms(self.known, self.known))
        return score(*_terms(pairs, self.known))

    def layer_p_values(self, pairs: Mapping[str, Tensor]) -> Tensor:
        """(N, L) conformal p-value of each layer's surprise, from `readings`."""
        columns = [
            conformal_p_values(self.known[name][:, 0], pairs[name][:, 0].cpu())
            for name in self.known
        ]
        return torch.stack(columns, dim=1)


def aggregate(
    traces: Mapping[str, CodingTrace], calibration: LayerCalibration | None, method: str | None
) -> AggregatedSurprise:
    """The layers of one forward as one surprise per input.

    Args:
        traces: layer -> trace, one at least.
        calibration: what percentiles and p-values refer to, if there is one.
        method: one of `METHODS`; None takes the calibrated one, or `mean` without a calibration.

    Raises:
        InputError: an unknown method.
        NotReadyError: a method that needs a calibration for it.
    """
    if calibration is not None and method in (None, calibration.method):
        return calibration.score(traces)
    if method is not None and method not in METHODS:
        raise InputError(f"surprise method: found {method!r}; {did_you_mean(method, METHODS)}")
    if method not in (None, *AGGREGATIONS):
        raise NotReadyError(
            f"surprise: {method} is not calibrated; call calibrate(loader, method={method!r})"
        )
    result = AGGREGATIONS[method or "mean"](traces)
    assert result is not None
    return result


def _finite(pairs: Mapping[str, Tensor]) -> Tensor:
    """(N,) whether all readings of an input are finite."""
    return torch.stack([pair.isfinite().all(1) for pair in pairs.values()]).all(0)


def _finite_rows(pairs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The readings of the inputs that are finite in every layer.

    Raises:
        InputError: there is none; a layer that is never finite is named.
    """
    finite = _finite(pairs)
    if len(finite) and not finite.any():
        name = next(
            (n for n, p in pairs.items() if not p.isfinite().all(1).any()), next(iter(pairs))
        )
        raise InputError(f"surprise of layer {name!r}: found NaN or infinity in every input")
    return {name: pair[finite] for name, pair in pairs.items()}


def _terms(
    pairs: Mapping[str, Tensor], names: Iterable[str]
) -> tuple[Tensor, Tensor, Tensor | None]:
    """(N, L) code lengths, (N, L) regrets, and (N, 2) label readings where there are any."""
    coded = torch.stack([pairs[n].cpu() for n in names if not n.endswith(LABEL)], dim=1)
    labels = [pairs[n].cpu() for n in names if n.endswith(LABEL)]
    return coded[..., 0], coded[..., 1], labels[0] if labels else None
