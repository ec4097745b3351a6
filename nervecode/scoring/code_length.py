"""The default aggregation of recipe `bits`: code lengths, regret and the label, as rarities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.scoring.combine import NEGLIGIBLE, zscore
from nervecode.scoring.rarity import rarity

LABEL = ":label"  # what ends the name of a label code
PSEUDO_COUNTS = 20  # calibration inputs that a class must have before its own figures weigh half


@dataclass(frozen=True)
class CodeLengthScore:
    """rarity(mean of z(B_l), given k) + rarity(mean of z(R_l)) + rarity(N), in bits.

    B_l is the code length of layer l, R_l its regret, N the regret of the label; z() standardises
    on the ID calibration split, means run over layers, and `rarity` turns each of the three into
    bits on the same split. B finds inputs far from everything, R inputs between the classes, N
    inputs at which the head hesitates or has no training data. What is a usual code length differs
    from class to class, so the mean of B is standardised again among the calibration inputs for
    which the head predicts the same class k. Without a label code, N is left out and all inputs
    count as one class.

    Attributes:
        bits: (n, L) code lengths of the ID calibration inputs.
        regret: (n, L) their regrets.
        label: (n, 2) their label regrets and predicted classes, or None.
    """

    bits: Tensor
    regret: Tensor
    label: Tensor | None = None

    def __call__(self, bits: Tensor, regret: Tensor, label: Tensor | None = None) -> Tensor:
        """(N,) scores in bits from what the attributes hold, of N inputs."""
        known, found = zscore(self.bits, self.bits).mean(1), zscore(self.bits, bits).mean(1)
        between = zscore(self.regret, self.regret).mean(1), zscore(self.regret, regret).mean(1)
        if self.label is None or label is None:
            return rarity(known, found) + rarity(*between)
        classes = self.label[:, 1].long()
        given = [
            zscore_by_class(known, classes, score, of)
            for score, of in ((known, classes), (found, label[:, 1].long()))
        ]
        return rarity(*given) + rarity(*between) + rarity(self.label[:, 0], label[:, 0])


def zscore_by_class(calibration: Tensor, known: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
    """(N,) scores standardised among the calibration scores of the same class.

    Mean and deviation of a class are drawn towards those of all: n of its calibration scores
    weigh n / (n + PSEUDO_COUNTS). A class that calibration data never showed has those of all.

    Args:
        calibration: (n,) scores.
        known: (n,) their classes.
        scores: (N,) scores.
        classes: (N,) their classes.
    """
    number = 1 + int(torch.cat([known, classes]).max())
    calibration = calibration.double()
    counts = torch.bincount(known, minlength=number).double()

    def mean(values: Tensor) -> Tensor:
        sums = torch.zeros(number, dtype=torch.float64).index_add_(0, known, values)
        return sums / counts.clamp_min(1)

    means = mean(calibration)
    deviations = mean((calibration - means[known]).square()).sqrt()
    weight = counts / (counts + PSEUDO_COUNTS)
    centre = weight * means + (1 - weight) * calibration.mean()
    spread = weight * deviations + (1 - weight) * calibration.std(correction=0)
    spread = torch.where(spread <= NEGLIGIBLE * (1 + centre.abs()), 1.0, spread)
    return (scores.double() - centre[classes]) / spread[classes]


def readings(name: str, trace: CodingTrace) -> Tensor:
    """What calibration keeps of a layer's trace.

    (B, 2) surprise and regret of a fitted code, (B, 2) regret and predicted class of a label code
    (`NAME:label`), (B, 1) surprise of a learned code.
    """
    if name.endswith(LABEL):
        parts = [trace.surprise, trace.code.best_index.to(trace.surprise)]
    else:
        parts = [trace.surprise] if trace.regret is None else [trace.surprise, trace.regret]
    return torch.stack([part.detach() for part in parts], dim=1)
