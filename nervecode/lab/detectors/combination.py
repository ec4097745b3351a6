"""The combination of energy, Mahalanobis and `nervecode`: which scores, by which letters, how."""

from __future__ import annotations

from collections.abc import Collection
from itertools import combinations

from torch import Tensor

from nervecode.lab.schema import PRIMARY
from nervecode.scoring import id_zscore_equal

COMBINED = {"E": "energy", "M": "mahalanobis", "N": PRIMARY}
COMBINATION = "combo_id_zscore_equal"

Arrays = dict[str, Tensor]


def subsets(methods: Collection[str]) -> list[tuple[str, ...]]:
    """The letters of every two, and of all three, of those members that are among some methods."""
    letters = [letter for letter, method in COMBINED.items() if method in methods]
    return [chosen for size in (2, 3) for chosen in combinations(letters, size)]


def combine(calibration: Arrays, scores: Arrays) -> Arrays:
    """The combination, and that of every pair of its members, averaged as z-scores.

    Args:
        calibration: method -> scores of ID calibration.
        scores: method -> (N,) scores.
    """
    combined = {}
    for letters in subsets(scores):
        names = [COMBINED[letter] for letter in letters]
        suffix = "" if len(letters) == len(COMBINED) else f"_{'+'.join(letters)}"
        combined[COMBINATION + suffix] = id_zscore_equal(
            {name: calibration[name] for name in names}, {name: scores[name] for name in names}
        )
    return combined
