"""Rarity: how unusual a score is among ID scores, in bits, without an upper end."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.scoring.percentiles import Steps, number_below

TAIL = 0.1
MOST = -math.log2(TAIL)  # bits of a p-value


class Rarity(NamedTuple):
    """-log2 of the conformal p-value; in the tail, of a fitted exponential instead.

    A p-value from n scores never falls below 1 / (n + 1), so far outliers would all look alike.
    Above the 1 - TAIL quantile u of the calibration scores the excess s - u is taken to be
    exponential with the mean m that it has on calibration data (the peaks-over-threshold method,
    Pickands 1975, https://doi.org/10.1214/aos/1176343003, with shape 0):

        -log2 P(S > s) = -log2 TAIL + (s - u) / (m ln 2)

    Attributes:
        body: bits of the p-value up to u, and -log2 TAIL above, by calibration score.
        start: (..., 1) u.
        slope: (..., 1) 1 / (m ln 2).
    """

    body: Steps
    start: Tensor
    slope: Tensor

    @classmethod
    def of(cls, calibration: Tensor) -> Rarity:
        """That of (..., n) ID scores, of each row by itself."""
        known, n = calibration.double(), calibration.shape[-1]
        # Of two scores around the quantile the lower, so that one at least exceeds it, however few.
        start = torch.quantile(known, 1 - TAIL, dim=-1, keepdim=True, interpolation="lower")
        above = known > start
        beyond = above.sum(-1, keepdim=True)
        excess = torch.where(above, known - start, 0.0).sum(-1, keepdim=True) / beyond.clamp_min(1)
        below = torch.arange(n + 1, dtype=torch.float64)
        bits = -((1 + n - below) / (n + 1)).log2()
        # A score above u has all below it that are not.
        bits = torch.where(below < n - beyond, bits, MOST).clamp_max(MOST)
        return cls(Steps(known.sort(dim=-1).values, bits), start, _slope(excess, start))

    def held_out(self, calibration: Tensor) -> Tensor:
        """(..., n) bits of the ID scores behind it, each among the others alone, float64."""
        known, n = calibration.double(), calibration.shape[-1]
        # Above this score, it is the others' quantile too; others below it are no excess.
        start = self.body.edges[..., math.floor((1 - TAIL) * (n - 2)), None]
        above = (known - start).clamp_min(0)
        others = ((above > 0).sum(-1, keepdim=True) - 1).clamp_min(1)
        excess = (above.sum(-1, keepdim=True) - above) / others
        as_surprising = n - number_below(self.body.edges, known)  # itself among them
        bits = (-(as_surprising.double() / n).log2()).clamp_max(MOST)
        return torch.where(above > 0, MOST + above * _slope(excess, start), bits)

    def __call__(self, scores: Tensor) -> Tensor:
        """(..., N) scores -> (..., N) bits, float64, not falling where the scores rise."""
        scores = scores.double()
        return torch.addcmul(self.body(scores), (scores - self.start).clamp_min(0), self.slope)


def _slope(excess: Tensor, start: Tensor) -> Tensor:
    """Where nothing exceeds the quantile, any excess is a surprise, and a finite one."""
    return 1 / (excess.clamp_min(1e-9 * (1 + start.abs())) * math.log(2))


def rarity(calibration: Tensor, scores: Tensor) -> Tensor:
    """(N,) rarity of scores among (n,) ID scores, bits; see `Rarity`."""
    return Rarity.of(calibration)(scores)
