"""Tables: rows as tables for readers. Reads rows, knows no stage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from nervecode.lab.results.rows import (
    GROUPS,
    Row,
    gate_reason,
    is_withheld,
    ranking,
    summarise,
)
from nervecode.lab.results.table import Table, as_markdown

Meta = Mapping[str, Any]


def marks(meta: Meta) -> list[str]:
    """What must be said beside any figure: DEMO, TRANSFER, FAILED GATE, or nothing."""
    failed = meta.get("gate", {}).get("passed") is False
    said = {"DEMO": meta.get("demo"), "TRANSFER": meta.get("transfer"), "FAILED GATE": failed}
    return [mark for mark, applies in said.items() if applies]


def stamp(meta: Meta) -> str:
    """The marks of a run as the beginning of a title."""
    return "".join(f"{mark}: " for mark in marks(meta))


def group_table(meta: Meta, rows: Sequence[Row]) -> Table:
    """Methods by group, ranked by the mean of near and far; the cells are AUROC x100."""
    title = f"{stamp(meta)}{meta['name']}: AUROC ↑ by group"
    cells = {(r["method"], r["group"]): r for r in summarise(rows)}
    ranked = [row["method"] for row in ranking(rows)] or sorted({m for m, _ in cells})
    overall = {row["method"]: row for row in ranking(rows)}
    for method, row in overall.items():
        cells[method, "near+far"] = row
    groups = [g for g in ("near+far", *GROUPS) if any((m, g) in cells for m in ranked)]
    return _grid(title, ranked, groups, cells, _caption(meta))


def set_table(meta: Meta, rows: Sequence[Row]) -> Table:
    """Methods by OOD set; the cells are AUROC x100, mean over seeds."""
    title = f"{stamp(meta)}{meta['name']}: AUROC ↑ by OOD set"
    values: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        if row["status"] == "ok":
            values.setdefault((row["method"], row["ood"]), []).append(row["auroc"])
    cells = {key: {"auroc_mean": float(np.mean(aurocs))} for key, aurocs in values.items()}
    sets = list(dict.fromkeys(row["ood"] for row in rows))
    ranked = [row["method"] for row in ranking(rows)] or sorted({m for m, _ in cells})
    return _grid(title, ranked, sets, cells, _caption(meta, what="mean"))


def withheld(meta: Meta) -> Table:
    """What stands in the place of every table when the gate was not passed."""
    gate = meta["gate"]
    body = [[seed, gate_reason(gate, int(seed))] for seed in gate["accuracy"]]
    return Table(f"{stamp(meta)}{meta['name']}: tables withheld", ["seed", "verdict"], body)


def failures(rows: Iterable[Row]) -> Table | None:
    """The methods that failed, each with its reason; None where there are none."""
    reasons = {(r["method"], r["seed"], r["reason"]) for r in rows if r["status"] == "failed"}
    if not reasons:
        return None
    body = [[method, str(seed), reason] for method, seed, reason in sorted(reasons)]
    return Table("Methods that failed", ["method", "seed", "reason"], body)


def all_tables(meta: Meta, rows: Sequence[Row]) -> list[Table]:
    """Every table of a run, in order."""
    if is_withheld(rows):
        return [withheld(meta)]
    tables = [group_table(meta, rows), set_table(meta, rows), failures(rows)]
    return [table for table in tables if table is not None and table.body]


def markdown(meta: Meta, rows: Sequence[Row]) -> str:
    """All tables as one Markdown page; best in bold, second in italics."""
    return "\n".join(as_markdown(table) for table in all_tables(meta, rows))


def _caption(meta: Meta, *, what: str = "mean ± standard deviation") -> str:
    seeds = len(meta["seeds"])
    sizes = meta.get("split_sizes", {})
    accuracy = [float(value) for value in meta["gate"]["accuracy"].values()]
    over = f"{what} over {seeds} seeds" if seeds > 1 else "one seed, which has no deviation"
    caption = (
        f"AUROC x100, higher is better; {over}; {sizes.get('id_test', '?')} ID test inputs; "
        f"ID accuracy {100 * float(np.mean(accuracy)):.2f} %."
    )
    fallen = [f" Codebooks of {n} collapsed: {t}." for n, t in meta.get("collapsed", {}).items()]
    # Every other table calls recipe `bits` by this name.
    named = [" nervecode is recipe v0_1_1 here."] if meta.get("recipe") == "v0_1_1" else []
    return "".join([caption, *named, *fallen])


def _grid(
    title: str,
    methods: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[str, str], Row],
    caption: str,
) -> Table:
    body = [[m, *[_cell(cells.get((m, column))) for column in columns]] for m in methods]
    best, second = set(), set()
    for c, column in enumerate(columns, start=1):
        means = [cells[m, column]["auroc_mean"] if (m, column) in cells else None for m in methods]
        first, next_best = best_and_second(means)
        best |= {(r, c) for r in first}
        second |= {(r, c) for r in next_best}
    return Table(title, ["method", *columns], body, frozenset(best), frozenset(second), caption)


def best_and_second(
    means: Sequence[float | None], *, lower: bool = False
) -> tuple[set[int], set[int]]:
    """The places of the best and of the second of some means, as they are shown: x100, two digits.

    Equal figures share a place; `lower` says which are better, and None is no figure.
    """
    shown = [None if mean is None else round(100 * mean, 2) for mean in means]
    ranked = sorted({figure for figure in shown if figure is not None}, reverse=not lower)
    best, second = (
        {place for place, figure in enumerate(shown) if figure in ranked[rank : rank + 1]}
        for rank in (0, 1)
    )
    return best, second


def with_deviation(row: Row, sign: str = "±") -> str:
    """Mean and deviation of AUROC x100; the mean alone where there is one seed, or no deviation."""
    mean = f"{100 * row['auroc_mean']:.2f}"
    if row.get("num_seeds", 1) < 2:
        return mean
    return f"{mean}{sign}{100 * row['auroc_std']:.2f}"


def _cell(row: Row | None) -> str:
    if row is None:
        return "failed"
    return with_deviation(row)
