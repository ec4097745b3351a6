"""The default aggregation of recipe `bits`, and calibration over layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.scoring.aggregate import AGGREGATIONS, AggregatedSurprise, finite_layers
from nervecode.scoring.calibrate import EmpiricalPercentileCalibrator
from nervecode.scoring.combine import zscore

CODE_LENGTH = "code_length"


@dataclass(frozen=True)
class CodeLengthScore:
    """mean over layers of z(B_l), plus z(sum over layers of R_l).

    B_l is the code length of layer l, R_l its regret, both in bits, and z() standardises on the
    ID calibration split. B finds inputs far from everything, R inputs between the classes.

    Attributes:
        bits: (n, L) code lengths of the ID calibration inputs.
        regret: (n, L) their regrets.
    """

    bits: Tensor
    regret: Tensor

    def __call__(self, bits: Tensor, regret: Tensor) -> Tensor:
        """(N,) scores from (N, L) code lengths and regrets; float64."""
        lengths = zscore(self.bits, bits).mean(1)
        return lengths + zscore(self.regret.sum(1), regret.sum(1))


def surprise_and_regret(trace: CodingTrace) -> Tensor:
    """(B, 2) surprise and regret of a trace, or (B, 1) where there is no regret."""
    parts = [trace.surprise] if trace.regret is None else [trace.surprise, trace.regret]
    return torch.stack([part.detach() for part in parts], dim=1)


class Calibration:
    """The ID calibration scores of every layer, and of their aggregate.

    Args:
        layers: name -> (n, 2) surprise and regret of the calibration inputs; (n, 1) for learned
            codes, which have no regret.
        method: how layers are aggregated.
    """

    def __init__(self, layers: Mapping[str, Tensor], method: str) -> None:
        if method not in (*AGGREGATIONS, CODE_LENGTH):
            allowed = did_you_mean(method, [*AGGREGATIONS, CODE_LENGTH])
            raise InputError(f"calibrate method: found {method!r}; {allowed}")
        if method == CODE_LENGTH and any(pair.shape[1] < 2 for pair in layers.values()):
            raise NotReadyError("calibrate: code_length needs fitted codes; call fit(loader) first")
        self.layers = {name: pair.cpu() for name, pair in layers.items()}
        self.method = method
        self.calibrator = EmpiricalPercentileCalibrator()
        self.calibrator.fit(self.aggregate(self.layers), aggregation=method)

    def score(self, traces: Mapping[str, CodingTrace]) -> AggregatedSurprise:
        """Aggregate traces as the calibration scores were, with percentile and p-value.

        Raises:
            InputError: traces of other layers than were calibrated.
        """
        pairs = {name: surprise_and_regret(trace) for name, trace in traces.items()}
        if set(pairs) != set(self.layers):
            raise InputError(
                f"layers: found {sorted(pairs)}, calibrated were {sorted(self.layers)}"
            )
        by_layer = finite_layers(traces)
        scores = self.aggregate(pairs)
        return AggregatedSurprise(
            scores.to(by_layer),
            by_layer,
            tuple(traces),
            self.method,
            percentile=self.calibrator.percentiles(scores),
            p_value=self.calibrator.p_values(scores),
        )

    def aggregate(self, pairs: Mapping[str, Tensor]) -> Tensor:
        """(N,) float64 scores from `surprise_and_regret` of every calibrated layer."""
        if self.method != CODE_LENGTH:
            result = AGGREGATIONS[self.method]({n: p[:, 0] for n, p in pairs.items()})
            assert result is not None
            return result.surprise.double().cpu()
        calibration = torch.stack(list(self.layers.values()), dim=1)  # (n, L, 2)
        found = torch.stack([pairs[name].to("cpu") for name in self.layers], dim=1)
        score = CodeLengthScore(calibration[..., 0], calibration[..., 1])
        return score(found[..., 0], found[..., 1])
