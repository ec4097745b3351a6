"""The default aggregation of recipe `bits`: code lengths, regret and the label, as rarities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.scoring.combine import zscore
from nervecode.scoring.rarity import rarity


@dataclass(frozen=True)
class CodeLengthScore:
    """rarity(mean of z(B_l)) + rarity(mean of z(R_l)) + rarity(N), in bits.

    B_l is the code length of layer l, R_l its regret, N the regret of the label; z() standardises
    on the ID calibration split, means run over layers, and `rarity` turns each of the three into
    bits on the same split. B finds inputs far from everything, R inputs between the classes, N
    inputs at which the head hesitates or has no training data. Without a label code, N is left out.

    Attributes:
        bits: (n, L) code lengths of the ID calibration inputs.
        regret: (n, L) their regrets.
        label: (n,) their label regrets, or None.
    """

    bits: Tensor
    regret: Tensor
    label: Tensor | None = None

    def __call__(self, bits: Tensor, regret: Tensor, label: Tensor | None = None) -> Tensor:
        """(N,) scores in bits from (N, L) code lengths and regrets, and (N,) label regrets."""
        total = _rarity_of_mean(self.bits, bits) + _rarity_of_mean(self.regret, regret)
        if self.label is not None and label is not None:
            total = total + rarity(self.label, label)
        return total


def _rarity_of_mean(calibration: Tensor, scores: Tensor) -> Tensor:
    """Rarity of the mean over layers of z-scores."""
    return rarity(zscore(calibration, calibration).mean(1), zscore(calibration, scores).mean(1))


def surprise_and_regret(trace: CodingTrace) -> Tensor:
    """(B, 2) surprise and regret of a trace, or (B, 1) where there is no regret."""
    parts = [trace.surprise] if trace.regret is None else [trace.surprise, trace.regret]
    return torch.stack([part.detach() for part in parts], dim=1)
