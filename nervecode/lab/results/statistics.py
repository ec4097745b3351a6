"""Statistics of a study: paired errors and intervals, average ranks, the critical difference."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

DRAWS = 10_000
LEVEL = 0.95
FEWEST = 5  # data sets, below which their drawing anew says nothing: of two, it gives the two back


@dataclass(frozen=True)
class Interval:
    """A mean difference and its 95 % interval; NaN ends where too little is known for one."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        ends = "" if np.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return f"{self.mean:+.2f}{ends}"


def placements(id_scores: np.ndarray, ood_scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) fraction of OOD above each ID score, (m,) fraction of ID below each OOD score.

    A tie counts one half, so the mean of either is the AUROC. DeLong et al. 1988,
    https://doi.org/10.2307/2531595.
    """
    inside, outside = np.sort(id_scores), np.sort(ood_scores)
    left = np.searchsorted(outside, id_scores, "left")
    right = np.searchsorted(outside, id_scores, "right")
    below = np.searchsorted(inside, ood_scores, "left")
    upto = np.searchsorted(inside, ood_scores, "right")
    return 1 - (left + right) / 2 / len(outside), (below + upto) / 2 / len(inside)


def auroc(id_scores: np.ndarray, ood_scores: np.ndarray) -> float:
    """AUROC of (n,) against (m,) scores; without scikit-learn, which takes seconds to load."""
    return float(placements(id_scores, ood_scores)[0].mean())


def paired_error(
    ours: Mapping[str, tuple[np.ndarray, np.ndarray]],
    theirs: Mapping[str, tuple[np.ndarray, np.ndarray]],
    weights: Mapping[str, float],
) -> float:
    """The standard error of a weighted difference of AUROC over OOD sets that share ID inputs.

    An AUROC is the mean of its placements on either side, so that the error of a difference is that
    of the mean differences of placements: of ID over all sets together, and of each set. DeLong et
    al. 1988, https://doi.org/10.2307/2531595.

    Args:
        ours: OOD set -> `placements` of one method.
        theirs: the same of the other.
        weights: OOD set -> its share.
    """
    inside = sum(weights[s] * (ours[s][0] - theirs[s][0]) for s in weights)
    outside = [weights[s] * (ours[s][1] - theirs[s][1]) for s in weights]
    return float(np.sqrt(sum(map(_variance_of_mean, [np.asarray(inside), *outside]))))


def _variance_of_mean(values: np.ndarray) -> float:
    """Of independent values; of a single one, which tells nothing of it, 0."""
    return float(values.var(ddof=1) / len(values)) if len(values) > 1 else 0.0


def around(mean: float, error: float) -> Interval:
    """A mean and its interval, given its standard error."""
    width = NormalDist().inv_cdf((1 + LEVEL) / 2) * error
    return Interval(mean, mean - width, mean + width)


def over_data_sets(differences: Iterable[tuple[str, float]], *, seed: int = 0) -> Interval:
    """The mean over settings, and its interval when their data sets are drawn anew.

    Settings of one data set are not independent, so that a draw of it is of all of them (cluster
    bootstrap; Davison and Hinkley 1997, section 3.8, https://doi.org/10.1017/CBO9780511802843).
    Of fewer than `FEWEST` data sets the ends are NaN.

    Args:
        differences: (data set, difference) of each setting.
        seed: of the draws.
    """
    pairs = list(differences)
    values = np.array([value for _, value in pairs], dtype=np.float64)
    names, places = np.unique([name for name, _ in pairs], return_inverse=True)
    if len(names) < FEWEST:
        return Interval(float(values.mean()), float("nan"), float("nan"))
    sums, counts = np.bincount(places, values), np.bincount(places)
    chosen = np.random.default_rng(seed).integers(len(names), size=(DRAWS, len(names)))
    draws = sums[chosen].sum(1) / counts[chosen].sum(1)
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(float(values.mean()), float(low), float(high))


@dataclass(frozen=True)
class Ranks:
    """Average ranks over settings, best first, and by how much two must differ.

    Attributes:
        average: method -> average rank; 1 is the best.
        critical_difference: two methods whose ranks differ by less are not told apart (Nemenyi).
        p_value: of the Friedman test that all methods are alike.
        num_settings: over how many settings.
    """

    average: dict[str, float]
    critical_difference: float
    p_value: float
    num_settings: int

    def alike(self, method: str) -> list[str]:
        """The other methods that one is not told apart from, best first."""
        rank, limit = self.average[method], self.critical_difference
        return [m for m, other in self.average.items() if m != method and abs(other - rank) < limit]

    def groups(self) -> list[tuple[str, str]]:
        """(best, worst) of every longest run of methods that are not told apart."""
        names = list(self.average)
        runs: list[tuple[int, int]] = []
        for start, name in enumerate(names):
            limit = self.average[name] + self.critical_difference
            end = max(
                i for i, other in enumerate(names) if self.average[other] < limit or i == start
            )
            if end > start and (not runs or end > runs[-1][1]):
                runs.append((start, end))
        return [(names[start], names[end]) for start, end in runs]


def ranks(scores: Mapping[str, Sequence[float]]) -> Ranks:
    """Rank methods in each setting by score, ties sharing their mean rank.

    Demsar 2006, https://jmlr.org/papers/v7/demsar06a.html.

    Args:
        scores: method -> one score per setting, higher is better; at least three methods and
            two settings.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    table = np.array(list(scores.values()))  # (k, n)
    k, n = table.shape
    average = rankdata(-table, axis=0).mean(1)
    quantile = studentized_range.ppf(LEVEL, k, np.inf) / np.sqrt(2)
    order = np.argsort(average, kind="stable")
    names = list(scores)
    return Ranks(
        {names[i]: float(average[i]) for i in order},
        float(quantile * np.sqrt(k * (k + 1) / (6 * n))),
        float(friedmanchisquare(*table).pvalue),
        n,
    )
