"""Reference: the average price that calibration inputs and the stream so far have paid."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from nervecode.errors import InputError
from nervecode.monitor.bettors import KINDS, prices

CHUNK = 1 << 16
FULL = 1 << 62  # units in a sum; BLOCK inputs more still fit in 64 bits


class Reference:
    """Sums of prices, one row for each set of calibration inputs.

    Given the ranks so far, the next input of an exchangeable stream has rank k with probability
    (1 + how often k was seen) / (n + 1 + inputs seen). So its expected price is the average over
    the n + 1 possible ranks and the inputs seen: one running sum, however long the stream.

    Args:
        counts: calibration inputs behind each row, n >= 0.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        sums = np.array([_over_ranks(n) for n in counts], dtype=np.int64)
        self.sums = sums.reshape(len(counts), len(KINDS))  # (R, B) in units
        self.seen = np.array(counts, dtype=np.int64) + 1  # (R,)

    def e_values(self, rows: int | slice, paid: np.ndarray) -> np.ndarray:
        """Log e-values (..., B) of one input at each row."""
        log_e: np.ndarray = np.log(paid / self.sums[rows] * self.seen[:, None][rows])
        return log_e

    def take(self, rows: int | slice, paid: np.ndarray) -> None:
        """These inputs belong to the reference from now on."""
        self.sums[rows] += paid
        self.seen[rows] += 1

    def block(self, row: int, paid: np.ndarray) -> np.ndarray:
        """Log e-values of (T, B) prices of T inputs of one row, in order, each taken at once."""
        after = self.sums[row] + paid.cumsum(0)
        seen = self.seen[row] + np.arange(len(paid))
        log_e: np.ndarray = np.log(paid / (after - paid) * seen[:, None])
        if len(paid):
            self.sums[row] = after[-1]
            self.seen[row] += len(paid)
        return log_e

    def check_room(self) -> None:
        """Refuse more inputs where a sum of them might not fit, after 4e12 of them or so.

        Raises:
            InputError: likewise.
        """
        if self.sums.size and self.sums.max() >= FULL:
            raise InputError(
                f"reference: found sums of {self.seen.max():,} inputs, which are full, allowed: "
                "restart(forget=True), or a new monitor"
            )


@lru_cache(maxsize=1024)
def _over_ranks(n: int) -> tuple[int, ...]:
    """(B,) the prices of all n + 1 ranks together."""
    total = np.zeros(len(KINDS), dtype=np.int64)
    for start in range(1, n + 2, CHUNK):
        ranks = np.arange(start, min(start + CHUNK, n + 2))
        total += prices(ranks / (n + 1)).sum(0)
    return tuple(total.tolist())
