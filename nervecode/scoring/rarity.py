"""Rarity: how unusual a score is among ID scores, in bits, without an upper end."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nervecode.scoring.percentiles import conformal_p_values

TAIL = 0.1


def rarity(calibration: Tensor, scores: Tensor, *, tail: float = TAIL) -> Tensor:
    """-log2 of the conformal p-value; in the tail, of a fitted exponential instead.

    A p-value from n scores never falls below 1 / (n + 1), so far outliers would all look alike.
    Above the 1 - `tail` quantile u of the calibration scores the excess s - u is taken to be
    exponential with the mean m that it has on calibration data (the peaks-over-threshold method,
    Pickands 1975, https://doi.org/10.1214/aos/1176343003, with shape 0):

        -log2 P(S > s) = -log2 tail + (s - u) / (m ln 2)

    Args:
        calibration: (n,) ID scores.
        scores: (N,) scores; higher is more surprising.
        tail: the fraction of calibration scores in the tail.

    Returns:
        (N,) bits, float64, not falling where scores rise.
    """
    known, scores = calibration.double(), scores.double()
    start = torch.quantile(known, 1 - tail, interpolation="higher")
    excess = (known[known > start] - start).sum() / (known > start).sum().clamp_min(1)
    # Where nothing exceeds the quantile, any excess is a surprise, and a finite one.
    excess = excess.clamp_min(1e-9 * (1 + start.abs()))
    body = -conformal_p_values(known, scores).log2()
    floor = -math.log2(tail)
    beyond = floor + (scores - start) / (excess * math.log(2))
    return torch.where(scores > start, beyond, body.clamp_max(floor))
