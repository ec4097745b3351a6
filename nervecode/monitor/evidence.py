"""Evidence: what the bettors have won, over every moment at which the change may have begun."""

from __future__ import annotations

import math

import numpy as np

from nervecode.monitor.bettors import KINDS, LOG_WEIGHTS

NOTHING = -1e300  # the logarithm of no money, as a number that JSON can hold


class Evidence:
    """The wealth of every bettor in some rows (the score, each layer, each class), as logarithms.

    A new stake enters at every input, and each stake is multiplied by the e-value of every input
    since: W <- (W + stake) e. Beside it runs the gain since the best moment to have begun,
    G <- max(G, 0) + ln e (Page 1954, https://doi.org/10.1093/biomet/41.1-2.100).

    Attributes:
        wealth: (R, B) ln W.
        means: (R,) ln of the mean of W, weighted over bettors.
        gain: (R, B) G.
        began: (R, B) number of the first input of G, from 1.
    """

    def __init__(self, rows: int) -> None:
        shape = rows, len(KINDS)
        self.wealth = np.full(shape, NOTHING)
        self.means = np.full(rows, NOTHING)
        self.gain = np.zeros(shape)
        self.began = np.zeros(shape, dtype=np.int64)

    def after(
        self, rows: int | slice, log_e: np.ndarray, log_stake: float, number: int
    ) -> tuple[np.ndarray, ...]:
        """What becomes of some rows with the input of a number, from 1; for `put`."""
        gain = self.gain[rows]
        wealth = np.logaddexp(self.wealth[rows], log_stake) + log_e
        return (
            wealth,
            log_mean(wealth),
            np.maximum(gain, 0.0) + log_e,
            np.where(gain > 0, self.began[rows], number),
        )

    def put(self, rows: int | slice, after: tuple[np.ndarray, ...]) -> None:
        """Take what `after` gave."""
        self.wealth[rows], self.means[rows], self.gain[rows], self.began[rows] = after

    def block(
        self, row: int, log_e: np.ndarray, log_stakes: np.ndarray, numbers: np.ndarray
    ) -> np.ndarray:
        """Take T inputs into a row; (T, B) the wealth after each of them."""
        after = log_e.cumsum(0)
        before = after - log_e
        staked = log_stakes[:, None] - before
        staked[0] = np.logaddexp(self.wealth[row], staked[0])
        wealth: np.ndarray = after + np.logaddexp.accumulate(staked, axis=0)
        unbroken = self.gain[row] + before  # the gain before each input, had none begun anew
        lowest = np.minimum(np.minimum.accumulate(unbroken, axis=0), 0.0)
        anew = np.where(unbroken <= lowest, np.arange(len(log_e))[:, None], -1).max(0)
        self.began[row] = np.where(anew >= 0, numbers[anew], self.began[row])
        self.gain[row] += after[-1] - lowest[-1]
        self.wealth[row] = wealth[-1]
        self.means[row] = log_mean(wealth[-1])
        return wealth

    def leader(self, row: int) -> int:
        """The bettor that has won most in a row."""
        return int((self.wealth[row] + LOG_WEIGHTS).argmax())


def log10_of(log_wealth: np.ndarray | float) -> np.ndarray:
    """Natural logarithms as powers of ten; 0, no evidence yet, where nothing is staked so far."""
    powers: np.ndarray = np.where(
        np.asarray(log_wealth) <= NOTHING / 2, 0.0, np.asarray(log_wealth) / math.log(10)
    )
    return powers


def log_mean(wealth: np.ndarray) -> np.ndarray:
    """(..., B) -> (...,): ln of the weighted mean over the bettors."""
    mean: np.ndarray = np.logaddexp.reduce(wealth + LOG_WEIGHTS, axis=-1)
    return mean


def log_add(first: float, second: float) -> float:
    """Ln of the sum of two numbers, by their logarithms."""
    more, less = max(first, second), min(first, second)
    return more + math.log1p(math.exp(less - more))


# A change that begins after t inputs is staked on with what 1 / log2(t + 2) loses from t to t + 1.
# The stakes of all t sum to 1, and those of a late change are small as slowly as they can be.


def log_tail(inputs: int) -> float:
    """Ln of the money kept for changes that begin after so many inputs."""
    return -math.log(math.log2(inputs + 2))


def log_stake(inputs: int) -> float:
    """Ln of the stake on a change that begins right after so many inputs."""
    lost = math.log1p(1 / (inputs + 2)) / math.log(2)
    return math.log(lost / (math.log2(inputs + 2) * math.log2(inputs + 3)))


def log_tails(inputs: np.ndarray) -> np.ndarray:
    """`log_tail` of an array."""
    tails: np.ndarray = -np.log(np.log2(inputs + 2.0))
    return tails


def log_stakes(inputs: np.ndarray) -> np.ndarray:
    """`log_stake` of an array."""
    lost = np.log1p(1 / (inputs + 2.0)) / math.log(2)
    stakes: np.ndarray = np.log(lost / (np.log2(inputs + 2.0) * np.log2(inputs + 3.0)))
    return stakes
