"""TieBreaker: a place at random among the calibration scores that equal an input's."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

Ties = tuple[tuple[int, int], ...]  # (rank, how many calibration scores are equal there), ascending
MASK = (1 << 64) - 1
SPREAD = 0xD1342543DE82EF95  # odd, so that a salt and the number beside it do not meet


def seed_of(*values: np.ndarray) -> int:
    """A seed for the draws among ties: another for each calibration set.

    A promise is an average over calibration sets and draws, so that draws which are the same for
    all sets could be unlucky for all of them.
    """
    digest = hashlib.sha256()
    for each in values:
        digest.update(np.sort(each).astype("<f8").tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def ties_among(scores: np.ndarray) -> Ties:
    """Of (n,) scores, each value that comes twice or more: the rank of an input with it, its count.

    The rank is 1 + how many of the scores are at least as high.
    """
    _, counts = np.unique(-scores, return_counts=True)
    ranks, often = 1 + counts.cumsum(), counts > 1
    return tuple(zip(ranks[often].tolist(), counts[often].tolist(), strict=True))


class TieBreaker:
    """Ranks as they are where calibration inputs and stream alike have ties broken at random.

    Each calibration input among equals got a random number once, and each input of the stream gets
    one. Pairs of score and random number have no ties, so that their ranks follow Polya's urn.

    Args:
        ties: those of each row.
        counts: n of each row.
        seed: of the draws.
    """

    def __init__(self, ties: tuple[Ties, ...], counts: np.ndarray, seed: int) -> None:
        self._seed = ~seed & MASK  # of the stream's draws
        self._base = int(counts.max()) + 2
        pairs = [(row * self._base + k, c) for row, each in enumerate(ties) for k, c in each]
        keys, sizes = np.array(pairs, dtype=np.int64).reshape(-1, 2).T
        block = np.repeat(np.arange(len(sizes)), sizes)
        drawn = uniform(np.arange(len(block), dtype=np.uint64) + np.uint64(seed))
        self._keys = keys
        self._places = np.sort(block + drawn)
        self._starts = sizes.cumsum() - sizes
        self._block = dict(zip(keys.tolist(), range(len(keys)), strict=True))

    def one(self, rank: int, row: int, number: int, salt: int) -> int:
        """The rank of an input, by its number and a salt that no other worker has."""
        block = self._block.get(row * self._base + rank)
        if block is None:
            return rank
        place = block + uniform(number * SPREAD + salt + self._seed)
        return rank - int(self._places.searchsorted(place) - self._starts[block])

    def many(
        self, ranks: np.ndarray, rows: np.ndarray, numbers: np.ndarray, salts: np.ndarray
    ) -> np.ndarray:
        """The same for (N,) inputs."""
        keys = rows * self._base + ranks
        block = np.minimum(self._keys.searchsorted(keys), len(self._keys) - 1)
        tied = np.flatnonzero(self._keys[block] == keys)
        block = block[tied]
        numbers = numbers[tied].astype(np.uint64) * SPREAD
        drawn = uniform(numbers + salts[tied] + np.uint64(self._seed))
        broken = ranks.copy()
        broken[tied] -= self._places.searchsorted(block + drawn) - self._starts[block]
        return broken


def uniform(number: Any) -> Any:
    """A fraction in [0, 1) for a whole number, or for each of an array of uint64.

    SplitMix64 (Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195).
    """
    z = ((number + 1) * 0x9E3779B97F4A7C15) & MASK
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return ((z ^ (z >> 31)) >> 11) * 2.0**-53
