"""Metric table: every metric of every method on one OOD set, as mean and deviation over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nervecode.lab.results.rows import METRICS, Row, over_seeds
from nervecode.lab.results.table import Table
from nervecode.lab.results.tables import best_and_second

# Metric -> its name in a header, and whether higher is better.
NAMES = {
    "auroc": ("AUROC ↑", True),
    "aupr_in": ("AUPR-IN ↑", True),
    "aupr_out": ("AUPR-OUT ↑", True),
    "fpr95": ("FPR95 ↓", False),
    "id_tpr95_ood_accepted": ("OOD accepted at 95 % ID ↓", False),
}


def metric_table(rows: Sequence[Row]) -> Table:
    """The rows of one OOD set, best AUROC first; all cells x100, best and second marked."""
    good = [row for row in rows if row["status"] == "ok"]
    methods = list(dict.fromkeys(row["method"] for row in good))
    values = {
        (method, metric): np.array([r[metric] for r in good if r["method"] == method])
        for method in methods
        for metric in METRICS
    }
    methods.sort(key=lambda method: -values[method, "auroc"].mean())
    body = [[m, *[_cell(values[m, metric]) for metric in METRICS]] for m in methods]
    best, second = set(), set()
    for column, metric in enumerate(METRICS, start=1):
        means = [float(values[method, metric].mean()) for method in methods]
        first, next_best = best_and_second(means, lower=not NAMES[metric][1])
        best |= {(row, column) for row in first}
        second |= {(row, column) for row in next_best}
    header = ["method", *[NAMES[metric][0] for metric in METRICS]]
    seeds = len({row["seed"] for row in good})
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else "one seed"
    caption = f"All x100; {over}; {rows[0]['n_id']} ID test inputs, {rows[0]['n_ood']} OOD inputs."
    title = f"{rows[0]['ood']} ({rows[0]['group']})"
    return Table(title, header, body, frozenset(best), frozenset(second), caption)


def _cell(values: np.ndarray) -> str:
    mean, deviation = over_seeds(100 * values)
    return f"{mean:.2f}±{deviation:.2f}" if len(values) > 1 else f"{mean:.2f}"
