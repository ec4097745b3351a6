"""Rarity: how unusual a score is among ID scores, in bits, without an upper end."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.scoring.percentiles import number_below, p_values_among

TAIL = 0.1


class Rarity(NamedTuple):
    """-log2 of the conformal p-value; in the tail, of a fitted exponential instead.

    A p-value from n scores never falls below 1 / (n + 1), so far outliers would all look alike.
    Above the 1 - TAIL quantile u of the calibration scores the excess s - u is taken to be
    exponential with the mean m that it has on calibration data (the peaks-over-threshold method,
    Pickands 1975, https://doi.org/10.1214/aos/1176343003, with shape 0):

        -log2 P(S > s) = -log2 TAIL + (s - u) / (m ln 2)

    Attributes:
        ordered: (..., n) sorted calibration scores, float64.
        start: (..., 1) u.
        excess: (..., 1) m.
    """

    ordered: Tensor
    start: Tensor
    excess: Tensor

    @classmethod
    def of(cls, calibration: Tensor) -> Rarity:
        """That of (..., n) ID scores, of each row by itself."""
        known = calibration.double()
        # Of two scores around the quantile the lower, so that one at least exceeds it, however few.
        start = torch.quantile(known, 1 - TAIL, dim=-1, keepdim=True, interpolation="lower")
        above = known > start
        excess = torch.where(above, known - start, 0.0).sum(-1, keepdim=True)
        excess = excess / above.sum(-1, keepdim=True).clamp_min(1)
        return cls(known.sort(dim=-1).values, start, _finite(excess, start))

    def held_out(self, calibration: Tensor) -> Tensor:
        """(..., n) bits of the ID scores behind it, each among the others alone, float64."""
        known, n = calibration.double(), calibration.shape[-1]
        # Above this score, it is the others' quantile too; others below it are no excess.
        start = self.ordered[..., math.floor((1 - TAIL) * (n - 2)), None]
        above = (known - start).clamp_min(0)
        others = ((above > 0).sum(-1, keepdim=True) - 1).clamp_min(1)
        excess = (above.sum(-1, keepdim=True) - above) / others
        as_surprising = n - number_below(self.ordered, known)  # itself among them
        tail = Rarity(self.ordered, start, _finite(excess, start))
        return tail._bits(known, as_surprising.double() / n)

    def __call__(self, scores: Tensor) -> Tensor:
        """(..., N) scores -> (..., N) bits, float64, not falling where the scores rise."""
        scores = scores.double()
        return self._bits(scores, p_values_among(self.ordered, scores))

    def _bits(self, scores: Tensor, p_values: Tensor) -> Tensor:
        floor = -math.log2(TAIL)
        beyond = floor + (scores - self.start) / (self.excess * math.log(2))
        return torch.where(scores > self.start, beyond, (-p_values.log2()).clamp_max(floor))


def _finite(excess: Tensor, start: Tensor) -> Tensor:
    """Where nothing exceeds the quantile, any excess is a surprise, and a finite one."""
    return excess.clamp_min(1e-9 * (1 + start.abs()))


def rarity(calibration: Tensor, scores: Tensor) -> Tensor:
    """(N,) rarity of scores among (n,) ID scores, bits; see `Rarity`."""
    return Rarity.of(calibration)(scores)
