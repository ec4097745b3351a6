"""The default aggregation of recipe `bits`: code lengths, regret and the label, as rarities."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.scoring.combine import Standard, scaling, within_reach
from nervecode.scoring.rarity import Rarity
from nervecode.scoring.readings import LayerReadings

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

    standard: Standard  # (L, 2)
    given_class: ClassStandard | None
    rarity: Rarity  # one row a term

    @classmethod
    def fit(cls, readings: LayerReadings) -> CodeLengthScore:
        """Learn from those of the ID calibration inputs."""
        standard = Standard.of(readings.fitted)
        means, given_class = _means(standard(readings.fitted)), None
        if readings.classes is not None:
            given_class = ClassStandard.of(means[0], readings.classes)
        return cls(standard, given_class, Rarity.of(_known(means, given_class, readings)))

    def held_out(self, readings: LayerReadings) -> Tensor:
        """(n,) scores in bits of the calibration inputs, each as if it were none of them.

        At least what a new input with the same readings scores: it must not pass for more
        surprising than all that it ties with, since they were standardised without themselves.
        """
        means = _means(self.standard(readings.fitted))
        alone = _means(Standard.held_out(readings.fitted))
        known = _known(means, self.given_class, readings)
        scores = self.rarity.held_out(known, _among_others(means, alone, readings))
        return torch.maximum(_total(scores), self(readings))

    def __call__(self, readings: LayerReadings) -> Tensor:
        """(N,) scores in bits of N inputs, float64; infinite where a reading is not finite."""
        lengths, regrets = _means(self.standard(readings.fitted))
        if self.given_class is not None and readings.classes is not None:
            lengths = self.given_class(lengths, readings.classes)
        terms = _terms(lengths, regrets, readings)
        scores = _total(self.rarity(terms))
        # A reading that is not finite makes a term so.
        return torch.where(terms.sum(0).abs() < math.inf, scores, math.inf)


def _means(z_scores: Tensor) -> tuple[Tensor, Tensor]:
    """(N,) means over layers of (N, L, 2) z(B) and z(R); 0 where only the label is coded."""
    if not z_scores.shape[1]:
        return z_scores.new_zeros(len(z_scores)), z_scores.new_zeros(len(z_scores))
    lengths, regrets = z_scores.mean(1).unbind(1)
    return lengths, regrets


def _known(
    means: tuple[Tensor, Tensor], given_class: ClassStandard | None, readings: LayerReadings
) -> Tensor:
    """(T, n) terms of calibration inputs, which rarities are of: among the others, or as if new.

    The larger, as in `held_out`.
    """
    terms = _among_others(means, means, readings)
    if given_class is None or readings.classes is None:
        return terms
    as_new = given_class(means[0], readings.classes)
    return torch.cat([torch.maximum(terms[:1], as_new), terms[1:]])


def _among_others(
    calibration: tuple[Tensor, Tensor], means: tuple[Tensor, Tensor], readings: LayerReadings
) -> Tensor:
    """(T, n) terms of calibration inputs: their means, and z given the class among the others'."""
    lengths, regrets = means
    if readings.classes is not None:
        lengths = ClassStandard.held_out(calibration[0], readings.classes, lengths)
    return _terms(lengths, regrets, readings)


def _terms(lengths: Tensor, regrets: Tensor, readings: LayerReadings) -> Tensor:
    """(T, N) float64 code length, regret and maybe label: what rarities are of."""
    label = [] if readings.label is None else [readings.label.double()]
    return torch.stack([lengths, regrets, *label])


def _total(terms: Tensor) -> Tensor:
    """(N,) from the (T, N) rarities of code length, regret and maybe label."""
    return torch.add(terms.sum(0), terms[0], alpha=WEIGHT - 1)


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
    def held_out(calibration: Tensor, classes: Tensor, scores: Tensor) -> Tensor:
        """(n,) z-scores, float64, of one score in the place of each of the calibration scores.

        Args:
            calibration: (n,) scores; those of the others are what each is standardised by.
            classes: (n,) their classes.
            scores: (n,) what the input of each scores where it is none of them.
        """
        counts, own = _of_classes(calibration, classes)
        counts, n, members = counts[classes], counts.sum(), within_reach(calibration)
        own = Standard(*[values[classes] for values in own]).without(members, counts)
        everyone = Standard.measured(calibration).without(members, n)
        return _drawn_together(counts - 1, own, everyone)(scores)

    def __call__(self, scores: Tensor, classes: Tensor) -> Tensor:
        """(N,) z-scores of (N,) scores of the given (N,) classes, float64."""
        known = classes.clamp_max(len(self.centre) - 1)
        centre, spread = (table.index_select(0, known) for table in self)
        return (scores.double() - centre) / spread


def _of_classes(scores: Tensor, classes: Tensor) -> tuple[Tensor, Standard]:
    """(K + 1,) counts, and means and deviations, of (n,) scores by class; 0 for empty classes."""
    number, scores = 2 + int(classes.max()), within_reach(scores)
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
