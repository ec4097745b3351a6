"""Reference: the average price that calibration inputs and the stream so far have paid."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nervecode.monitor.bettors import KINDS, prices

CHUNK = 1 << 16


class Reference:
    """Sums of prices, one row for each set of calibration inputs.

    Given the ranks so far, the next input of an exchangeable stream has rank k with probability
    (1 + how often k was seen) / (n + 1 + inputs seen). So its expected price is the average over
    the n + 1 possible ranks and the inputs seen: one running sum, however long the stream.

    Args:
        counts: calibration inputs behind each row, n >= 0.
    """

    def __init__(self, counts: Sequence[int]) -> None:
        each = {n: _over_ranks(n) for n in set(counts)}
        sums = np.array([each[n] for n in counts], dtype=np.int64)
        self.sums = sums.reshape(len(counts), len(KINDS))  # (R, B) in units
        self.seen = np.array(counts, dtype=np.int64) + 1  # (R,)

    def step(self, rows: int | slice, paid: np.ndarray) -> np.ndarray:
        """Log e-values (..., B) of one input at each row, which then belongs to the reference."""
        log_e: np.ndarray = np.log(paid * self.seen[rows, None] / self.sums[rows])
        self.sums[rows] += paid
        self.seen[rows] += 1
        return log_e

    def block(self, row: int, paid: np.ndarray) -> np.ndarray:
        """The same for (T, B) prices of T inputs of one row, in order."""
        after = self.sums[row] + paid.cumsum(0)
        seen = self.seen[row] + np.arange(len(paid))
        log_e: np.ndarray = np.log(paid * seen[:, None] / (after - paid))
        if len(paid):
            self.sums[row] = after[-1]
            self.seen[row] += len(paid)
        return log_e


def _over_ranks(n: int) -> np.ndarray:
    """(B,) the prices of all n + 1 ranks together."""
    total = np.zeros(len(KINDS), dtype=np.int64)
    for start in range(1, n + 2, CHUNK):
        ranks = np.arange(start, min(start + CHUNK, n + 2))
        total += prices(ranks / (n + 1)).sum(0)
    return total
