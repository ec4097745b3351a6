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
        below = torch.arange(n + 1, dtype=torch.float64, device=known.device)
        bits = -((1 + n - below) / (n + 1)).log2()
        # A score above u has all below it that are not.
        bits = torch.where(below < n - beyond, bits, MOST).clamp_max(MOST)
        return cls(Steps(known.sort(dim=-1).values, bits), start, _slope(excess, start))

    def held_out(self, calibration: Tensor, scores: Tensor) -> Tensor:
        """(..., n) bits, float64, of one score in the place of each ID score, among the others.

        Args:
            calibration: (..., n) the ID scores that this is of.
            scores: (..., n) what the input of each scores where it is none of them.
        """
        known, scores, n = calibration.double(), scores.double(), calibration.shape[-1]
        # The quantile of the others is one of two scores: a score up to the first leaves the next.
        at = math.floor((1 - TAIL) * (n - 2))
        first, second = self.body.edges[..., at, None], self.body.edges[..., at + 1, None]
        low = known <= first
        start = torch.where(low, second, first)
        excess = torch.where(low, _excess_of_others(known, second), _excess_of_others(known, first))
        # Of n others and itself; that which it replaces is none of them.
        as_surprising = n - number_below(self.body.edges, scores) + (known < scores)
        bits = (-(as_surprising.double() / n).log2()).clamp_max(MOST)
        beyond = scores - start
        return torch.where(beyond > 0, MOST + beyond * _slope(excess, start), bits)

    def __call__(self, scores: Tensor) -> Tensor:
        """(..., N) scores -> (..., N) bits, float64, not falling where the scores rise."""
        scores = scores.double()
        return torch.addcmul(self.body(scores), (scores - self.start).clamp_min(0), self.slope)


def _excess_of_others(scores: Tensor, start: Tensor) -> Tensor:
    """(..., n) mean excess over a start of those scores that exceed it, without each."""
    excess = (scores - start).clamp_min(0)
    above = excess > 0
    others = above.sum(-1, keepdim=True) - above.long()
    return (excess.sum(-1, keepdim=True) - excess) / others.clamp_min(1)


def _slope(excess: Tensor, start: Tensor) -> Tensor:
    """Where nothing exceeds the quantile, any excess is a surprise, and a finite one."""
    return 1 / (excess.clamp_min(1e-9 * (1 + start.abs())) * math.log(2))
