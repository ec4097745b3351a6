"""Compare: what differs between runs, and their results side by side over the seeds they share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.config.stored import dotted
from nervecode.lab.results.rows import (
    LOWER_IS_BETTER,
    Row,
    group_means,
    headlines,
    over_seeds,
    read_rows,
)
from nervecode.lab.results.statistics import Ranks, ranks
from nervecode.lab.run.directory import RunDir

CONFIDENCE = 0.95
HEADLINE = "near+far"
ASIDE = {"description", "cost"}  # settings that no result depends on

Seeds = dict[int, float]
Figures = dict[str, dict[str, Seeds]]


@dataclass(frozen=True)
class Difference:
    """The mean of paired differences with its 95 % interval; NaN ends where one pair is all."""

    mean: float
    low: float
    high: float
    pairs: int

    @property
    def verdict(self) -> str:
        """`higher` or `lower` where the interval leaves zero out, else `not told apart`."""
        return "higher" if self.low > 0 else "lower" if self.high < 0 else "not told apart"


@dataclass(frozen=True)
class Entry:
    """A method on a group or an OOD set in one run, and its difference from the first run."""

    run: str
    method: str
    measure: str
    mean: float
    std: float
    seeds: int
    difference: Difference | None

    def row(self) -> dict[str, Any]:
        """Plain values; what there is none of is None."""
        values: dict[str, Any] = {
            key: getattr(self, key) for key in ("run", "method", "measure", "mean", "std", "seeds")
        }
        for key in ("mean", "low", "high", "pairs"):
            value = getattr(self.difference, key) if self.difference else None
            name = "pairs" if key == "pairs" else f"difference_{key}"
            values[name] = None if isinstance(value, float) and math.isnan(value) else value
        return values


def paired(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """The first less the second over the seeds that both have; None where they share none.

    Args:
        first: seed -> figure.
        second: seed -> figure.

    Returns:
        Student's interval of the mean difference. A bootstrap of three to five seeds can't leave
        their range, and so is too narrow.
    """
    seeds = sorted(first.keys() & second.keys())
    if not seeds:
        return None
    differences = np.array([first[seed] - second[seed] for seed in seeds])
    mean, n = float(differences.mean()), len(seeds)
    if n == 1:
        return Difference(mean, np.nan, np.nan, 1)
    from scipy.stats import t

    half = float(t.ppf((1 + CONFIDENCE) / 2, n - 1) * differences.std(ddof=1) / np.sqrt(n))
    return Difference(mean, mean - half, mean + half, n)


def compare_runs(runs: Sequence[RunDir], metric: str) -> list[Entry]:
    """Every method, group and OOD set of every run; runs without figures have no entry."""
    by_run = {run.root.name: figures(_rows(run), metric) for run in runs}
    first = by_run[runs[0].root.name]
    entries = []
    for number, (run, methods) in enumerate(by_run.items()):
        for method, measures in methods.items():
            for measure, seeds in measures.items():
                reference = first.get(method, {}).get(measure, {}) if number else {}
                mean, deviation = over_seeds(seeds.values())
                difference = paired(seeds, reference)
                entries.append(Entry(run, method, measure, mean, deviation, len(seeds), difference))
    return entries


def figures(rows: Iterable[Row], metric: str) -> Figures:
    """Method -> measure -> seed -> figure; measures are near+far, the groups and the OOD sets."""
    good = [row | {"auroc": row[metric]} for row in rows if row["status"] == "ok"]
    table: Figures = {}
    for method, headline in headlines(good).items():
        table.setdefault(method, {})[HEADLINE] = headline
    for method, groups in group_means(good).items():
        table.setdefault(method, {}).update(groups)
    for row in good:
        table.setdefault(row["method"], {}).setdefault(row["ood"], {})[row["seed"]] = row["auroc"]
    return table


def rank_methods(entries: Iterable[Entry], metric: str) -> Ranks:
    """Average ranks, over the runs that have figures, of the methods that all of those have.

    Combinations are left out: they are made of the others.

    Raises:
        InputError: fewer than two such runs, or than three such methods.
    """
    table: dict[str, dict[str, float]] = {}
    for entry in entries:
        if entry.measure == HEADLINE and not entry.method.startswith(("combo_", "oracle_")):
            table.setdefault(entry.method, {})[entry.run] = entry.mean
    runs = {run for means in table.values() for run in means}
    shared = {method: means for method, means in table.items() if means.keys() == runs}
    if len(runs) < 2 or len(shared) < 3:
        raise InputError(
            f"--plot: found {len(runs)} runs with figures and {len(shared)} methods that all of "
            "them have, allowed: two runs and three methods, or more"
        )
    sign = -1 if metric in LOWER_IS_BETTER else 1
    return ranks({m: [sign * means[run] for run in sorted(runs)] for m, means in shared.items()})


def differing_settings(runs: Sequence[RunDir]) -> dict[str, list[Any]]:
    """Dotted key -> its value in each run, for the keys whose values are not all alike."""
    configs = [dotted(run.config.model_dump(mode="json", exclude=ASIDE)) for run in runs]
    keys = dict.fromkeys(k for config in configs for k, value in config.items() if value != {})
    table = {key: [config.get(key) for config in configs] for key in keys}
    return {k: values for k, values in table.items() if any(v != values[0] for v in values)}


def differing_data(runs: Sequence[RunDir]) -> list[str]:
    """The splits of one name that do not hold the same data in every run that has them."""
    hashes = [run.meta.get("datasets", {}) for run in runs]
    names = dict.fromkeys(name for splits in hashes for name in splits)
    return [n for n in names if len({splits[n] for splits in hashes if n in splits}) > 1]


def _rows(run: RunDir) -> list[Row]:
    """The rows of a run; none for one that has not come so far, which stays visible otherwise."""
    path = run.root / "results.json"
    if not path.is_file() and not run.recorded(path):
        return []
    rows: list[Row] = read_rows(run)["rows"]
    return rows
