"""The default aggregation of recipe `bits`: code lengths, regret and the label, as rarities."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.scoring.combine import Standard, scaling
from nervecode.scoring.rarity import Rarity

LABEL = ":label"  # what ends the name of a label code
PSEUDO_COUNTS = 20  # calibration inputs that a class must have before its own figures weigh half
WEIGHT = 1.5  # of the code length beside regret and label, which both ask about the classes


class CodeLengthScore(NamedTuple):
    """3/2 rarity(mean of z(B_l), given k) + rarity(mean of z(R_l)) + rarity(N), in bits.

    B_l is the code length of layer l, R_l its regret, N the regret of the label; z() standardises
    on the ID calibration split, means run over layers, and `rarity` turns each of the three into
    bits on the same split. B finds inputs far from everything, R inputs between the classes, N
    inputs at which the head hesitates or has no training data. What is a usual code length differs
    from class to class, so the mean of B is standardised again among the calibration inputs for
    which the head predicts the same class k. Without a label code, N is left out and all inputs
    count as one class. Made by `fit`.
    """

    bits: Standard
    given_class: ClassStandard | None
    regret: Standard
    rarity: Rarity  # one row a term

    @classmethod
    def fit(cls, bits: Tensor, regret: Tensor, label: Tensor | None = None) -> CodeLengthScore:
        """Learn from the ID calibration inputs.

        Args:
            bits: (n, L) code lengths.
            regret: (n, L) regrets.
            label: (n, 2) label regrets and predicted classes, or None.
        """
        standards = Standard.of(bits), Standard.of(regret)
        lengths, regrets = standards[0](bits).mean(1), standards[1](regret).mean(1)
        if label is None:
            return cls(standards[0], None, standards[1], Rarity.of(torch.stack([lengths, regrets])))
        classes = label[:, 1].long()
        given = ClassStandard.of(lengths, classes)
        terms = torch.stack([given.held_out(lengths, classes), regrets, label[:, 0].double()])
        return cls(standards[0], given, standards[1], Rarity.of(terms))

    def held_out(self, bits: Tensor, regret: Tensor, label: Tensor | None = None) -> Tensor:
        """(n,) scores in bits of the calibration inputs, each as if it were none of them."""
        lengths, regrets = self.bits(bits).mean(1), self.regret(regret).mean(1)
        if self.given_class is None or label is None:
            return _total(self.rarity.held_out(torch.stack([lengths, regrets])))
        lengths = self.given_class.held_out(lengths, label[:, 1].long())
        terms = torch.stack([lengths, regrets, label[:, 0].double()])
        return _total(self.rarity.held_out(terms))

    def __call__(self, bits: Tensor, regret: Tensor, label: Tensor | None = None) -> Tensor:
        """(N,) scores in bits from what `fit` takes, of N inputs."""
        lengths, regrets = self.bits(bits).mean(1), self.regret(regret).mean(1)
        if self.given_class is None or label is None:
            return _total(self.rarity(torch.stack([lengths, regrets])))
        lengths = self.given_class(lengths, label[:, 1].long())
        terms = torch.stack([lengths, regrets, label[:, 0].double()])
        return _total(self.rarity(terms))


def _total(terms: Tensor) -> Tensor:
    """(N,) from the (T, N) rarities of code length, regret and maybe label."""
    return terms.sum(0) + (WEIGHT - 1) * terms[0]


class ClassStandard(NamedTuple):
    """Scores standardised among the calibration scores of the same class.

    Mean and deviation of a class are drawn towards those of all: n of its calibration scores
    weigh n / (n + PSEUDO_COUNTS). A class that calibration data never showed has those of all.

    Attributes:
        centre: (K + 1,) means; the last is that of all.
        spread: (K + 1,) deviations.
    """

    centre: Tensor
    spread: Tensor

    @classmethod
    def of(cls, calibration: Tensor, classes: Tensor) -> ClassStandard:
        """That of (n,) scores and their (n,) classes."""
        counts, own = _of_classes(calibration, classes)
        return cls(*_drawn_together(counts, own, Standard.measured(calibration)))

    @staticmethod
    def held_out(calibration: Tensor, classes: Tensor) -> Tensor:
        """(n,) z-scores of the calibration scores, each among the others alone, float64."""
        counts, own = _of_classes(calibration, classes)
        counts, n = counts[classes], counts.sum()
        own = Standard(*[values[classes] for values in own]).without(calibration, counts)
        everyone = Standard.measured(calibration).without(calibration, n)
        return _drawn_together(counts - 1, own, everyone)(calibration)

    def __call__(self, scores: Tensor, classes: Tensor) -> Tensor:
        """(N,) z-scores of (N,) scores of the given (N,) classes, float64."""
        known = classes.clamp_max(len(self.centre) - 1)
        return (scores.double() - self.centre[known]) / self.spread[known]


def _of_classes(scores: Tensor, classes: Tensor) -> tuple[Tensor, Standard]:
    """(K + 1,) counts, and means and deviations, of (n,) scores by class; 0 for empty classes."""
    number, scores = 2 + int(classes.max()), scores.double()
    counts = torch.bincount(classes, minlength=number).double()

    def mean(values: Tensor) -> Tensor:
        sums = values.new_zeros(number).index_add_(0, classes, values)
        return sums / counts.clamp_min(1)

    means = mean(scores)
    return counts, Standard(means, mean((scores - means[classes]).square()).sqrt())


def _drawn_together(counts: Tensor, own: Standard, everyone: Standard) -> Standard:
    """The figures of classes of so many scores, drawn towards those of all."""
    weight = counts / (counts + PSEUDO_COUNTS)
    centre = weight * own.centre + (1 - weight) * everyone.centre
    spread = weight * own.spread + (1 - weight) * everyone.spread
    return Standard(centre, scaling(spread, centre))


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
