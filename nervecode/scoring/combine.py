"""Combination: several scores become one, with statistics of the ID calibration split alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.errors import InputError

NEGLIGIBLE = 1e-12  # a spread below this share of the size of a score is rounding
REACH = 30  # interquartile ranges from the median; what is further away counts as that far


class Standard(NamedTuple):
    """Mean and deviation of calibration scores, by which others are standardised.

    Of scores within reach, see `within_reach`.

    Attributes:
        centre: (...) means, float64.
        spread: (...) deviations; 1 for a score that is constant on calibration data, which is
            centred and not scaled, so that nothing becomes infinite.
    """

    centre: Tensor
    spread: Tensor

    @classmethod
    def of(cls, calibration: Tensor) -> Standard:
        """That of (n, ...) scores."""
        centre, spread = cls.measured(calibration)
        return cls(centre, scaling(spread, centre))

    @classmethod
    def measured(cls, calibration: Tensor) -> Standard:
        """The mean and deviation of (n, ...) scores `within_reach`; the deviation may be 0."""
        scores = within_reach(calibration)
        if not scores.numel():  # of no layer, which PyTorch warns of
            return cls(*scores.new_zeros(2, *scores.shape[1:]))
        return cls(scores.mean(0), scores.std(0, correction=0))

    @classmethod
    def held_out(cls, calibration: Tensor) -> Tensor:
        """(n, ...) z-scores of the calibration scores, each among the others alone, float64."""
        scores = within_reach(calibration)
        everyone = cls.measured(scores)
        centre, spread = everyone.without(scores, scores.new_tensor(len(scores)))
        return cls(centre, scaling(spread, centre))(calibration.double())

    def without(self, members: Tensor, counts: Tensor) -> Standard:
        """For each of some members of groups, what is left of its group's figures without it.

        Args:
            members: (...) scores, within reach.
            counts: (...) sizes of their groups, whose measured mean and deviation these are.
        """
        others = (counts - 1).clamp_min(1)
        step = (members.double() - self.centre) / others
        square = self.spread.square()
        left = square - step.square() * others
        left = torch.where(left > NEGLIGIBLE * square, left, 0.0)  # equal scores leave rounding
        return Standard(self.centre - step, (left * (1 + 1 / others)).sqrt())

    def __call__(self, scores: Tensor) -> Tensor:
        """(N, ...) z-scores, float64."""
        return (scores - self.centre) / self.spread


def within_reach(scores: Tensor) -> Tensor:
    """(n, ...) scores, float64, with those beyond `REACH` interquartile ranges brought there.

    One broken input would else be all that mean and deviation say: what tells the others apart
    would vanish beside it. Where the middle half of the scores is one value, nothing is moved.
    """
    known, n = scores.double(), len(scores)
    low, middle, high = (known.kthvalue(1 + (n - 1) * k // 4, dim=0).values for k in (1, 2, 3))
    reach = torch.where(high > low, REACH * (high - low), torch.inf)
    return torch.clamp(known, middle - reach, middle + reach)


def scaling(spread: Tensor, centre: Tensor) -> Tensor:
    """What scores are divided by: their spread, or 1 where it is nothing but rounding."""
    # Rounding leaves a constant score with a spread near 1e-16 of its size, not with 0.
    return torch.where(spread <= NEGLIGIBLE * (1 + centre.abs()), 1.0, spread)


def zscore(calibration: Tensor, scores: Tensor) -> Tensor:
    """Scores standardised by the mean and deviation of (n, ...) calibration scores."""
    return Standard.of(calibration)(scores)


def id_zscore_equal(calibration: Mapping[str, Tensor], scores: Mapping[str, Tensor]) -> Tensor:
    """(N,) the equal-weight mean of scores, each standardised on ID calibration.

    Args:
        calibration: name -> (n,) scores on the ID calibration split.
        scores: name -> (N,) scores to combine; the same names.

    Raises:
        InputError: no scores, or names that differ.
    """
    if not scores or set(scores) != set(calibration):
        raise InputError(
            f"id_zscore_equal: found scores {sorted(scores)} and calibration "
            f"{sorted(calibration)}, allowed: the same names, at least one"
        )
    return torch.stack([zscore(calibration[name], scores[name]) for name in scores]).mean(0)
