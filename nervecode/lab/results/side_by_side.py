"""Side by side: the tables of a comparison of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nervecode.lab.results.compare import HEADLINE, Entry, differing_settings
from nervecode.lab.results.rows import LOWER_IS_BETTER, gate_word
from nervecode.lab.results.table import Table
from nervecode.lab.results.tables import best_and_second, stamp
from nervecode.lab.run.directory import RunDir


def run_state(run: RunDir) -> dict[str, Any]:
    """What a reader must know before any figure: failed and gated runs stay visible."""
    accuracy = run.meta["gate"]["accuracy"]
    return {
        "run": run.root.name,
        "status": run.status,
        "gate": gate_word(run.meta["gate"]),
        "demo": bool(run.meta.get("demo")),
        "transfer": bool(run.meta.get("transfer")),
        "seeds": run.meta["seeds"],
        "accuracy": min(accuracy.values()) if accuracy else None,
        "error": run.meta.get("error"),
    }


def comparison_tables(
    runs: Sequence[RunDir], entries: Sequence[Entry], *, metric: str, method: str
) -> list[Table]:
    """The runs, the settings that differ, every method's headline, and one method on every set."""
    short = [f"[{number}]" for number in range(1, len(runs) + 1)]
    head = ["", "run", "status", "gate", "ID accuracy", "seeds"]
    body = [_state_row(label, run) for label, run in zip(short, runs, strict=True)]
    tables = [Table("Runs", head, body, caption="ID accuracy: the lowest of the seeds")]
    settings = differing_settings(runs).items()
    body = [[key, *("" if v is None else str(v) for v in values)] for key, values in settings]
    if body:
        tables.append(Table("Settings that differ", ["setting", *short], body))
    methods = {e.method: (e.method, HEADLINE) for e in entries if e.measure == HEADLINE}
    measures = {e.measure: (method, e.measure) for e in entries if e.method == method}
    if methods:
        title = f"{HEADLINE} of every method"
        tables.append(_figures_table(title, "method", methods, runs, entries, metric))
    if measures:
        title = f"{method} on every set"
        tables.append(_figures_table(title, "set", measures, runs, entries, metric))
    return tables


def _figures_table(
    title: str,
    first: str,
    lines: Mapping[str, tuple[str, str]],
    runs: Sequence[RunDir],
    entries: Sequence[Entry],
    metric: str,
) -> Table:
    """One line a label, one column a run; `lines` are (method, measure) of each label."""
    lower = metric in LOWER_IS_BETTER
    by_run = {(e.method, e.measure, e.run): e for e in entries}
    body, best, second = [], set(), set()
    for r, (label, line) in enumerate(lines.items()):
        cells = [by_run.get((*line, run.root.name)) for run in runs]
        body.append([label, *map(_cell, cells, runs)])
        means = [None if cell is None else cell.mean for cell in cells]
        marks = best_and_second(means, lower=lower)
        best |= {(r, 1 + place) for place in marks[0]}
        second |= {(r, 1 + place) for place in marks[1]}
    head = [f"{stamp(run.meta)}[{number}]" for number, run in enumerate(runs, start=1)]
    caption = (
        f"{'lower' if lower else 'higher'} is better; mean ± standard deviation (number of seeds); "
        "then the difference from [1] over the seeds that both have, with its 95 % interval "
        "(Student)"
    )
    title = f"{metric} x100 {'↓' if lower else '↑'}: {title}"
    return Table(title, [first, *head], body, frozenset(best), frozenset(second), caption)


def _state_row(label: str, run: RunDir) -> list[str]:
    state = run_state(run)
    accuracy = f"{100 * state['accuracy']:.2f} %" if state["accuracy"] is not None else ""
    mark = "".join(f" {name.upper()}" for name in ("demo", "transfer") if state[name])
    seeds = ", ".join(map(str, state["seeds"]))
    return [label, state["run"], state["status"] + mark, state["gate"], accuracy, seeds]


def _cell(entry: Entry | None, run: RunDir) -> str:
    if entry is None:
        withheld = run.meta["gate"]["passed"] is False
        return "withheld" if withheld else "failed" if run.status == "failed" else ""
    deviation = f"±{100 * entry.std:.2f}" if entry.seeds > 1 else ""
    text = f"{100 * entry.mean:.2f}{deviation} ({entry.seeds})"
    change = entry.difference
    if change is None:
        return text
    text += f" {100 * change.mean:+.2f}"
    if change.pairs > 1:
        text += f" [{100 * change.low:+.2f}, {100 * change.high:+.2f}]"
    return text
