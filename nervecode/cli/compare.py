"""`nervecode compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli.formats import Csv, Json, Latex, Markdown, chosen_format, emit
from nervecode.cli.runs import gate_word
from nervecode.cli.show import next_step, say
from nervecode.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from nervecode.lab.results.compare import Entry
    from nervecode.lab.results.tables import Table
    from nervecode.lab.run.directory import RunDir

Cells = frozenset[tuple[int, int]]


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN", help="Run directories.")],
    method: Annotated[
        str | None, typer.Option(help="The method whose groups and sets are shown.")
    ] = None,
    metric: Annotated[
        str, typer.Option(help="auroc, aupr_in, aupr_out, fpr95 or id_tpr95_ood_accepted.")
    ] = "auroc",
    picture: Annotated[
        Path | None,
        typer.Option("--plot", help="FILE.png, .svg or .pdf: average ranks over the runs."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a picture that exists.")] = False,
    as_json: Json = False,
    as_csv: Csv = False,
    as_md: Markdown = False,
    as_latex: Latex = False,
) -> None:
    """Set runs side by side: settings, results, differences. Differences are from the first run.

    A difference is the mean over the seeds that both runs have, with its 95 % interval.

    With --plot, a picture of each method's average rank, with each run as a setting.

    Example: nervecode compare runs/digits-… runs/digits_mlp-… --md
    """
    from nervecode.lab.results.compare import compare_runs, differing_data, differing_settings
    from nervecode.lab.results.rows import METRICS

    form = chosen_format(json=as_json, csv=as_csv, md=as_md, latex=as_latex)
    if metric not in METRICS:
        raise InputError(f"--metric: unknown {metric!r}; {did_you_mean(metric, METRICS)}")
    found = _open(runs)
    entries = compare_runs(found, metric)
    if picture is not None:
        _draw(picture, found, entries, metric, force=force)
    settings, data = differing_settings(found), differing_data(found)
    shown = _method(method, found, entries)
    emit(
        form,
        _tables(found, entries, settings, shown, metric),
        rows=[entry.row() for entry in entries],
        document={
            "metric": metric,
            "runs": [_state(run) for run in found],
            "settings": settings,
            "different_data": data,
            "entries": [entry.row() for entry in entries],
        },
    )
    if data:
        say(f"Not the same data in every run: {', '.join(data)}")
    next_step("report", runs[0])


def _draw(
    path: Path, runs: list[RunDir], entries: list[Entry], metric: str, *, force: bool
) -> None:
    """A critical-difference picture, with each run as a setting."""
    from nervecode.files import check_new
    from nervecode.lab.results.compare import HEADLINE, rank_methods
    from nervecode.lab.results.tables import stamp
    from nervecode.viz.critical_difference import plot_critical_difference
    from nervecode.viz.style import SUFFIXES

    check_new(path, SUFFIXES, force=force)
    marks = dict.fromkeys(m for run in runs for m in stamp(run.meta).split(": ") if m)
    plot_critical_difference(
        rank_methods(entries, metric),
        path,
        highlight=str(runs[0].meta["primary_method"]),
        measure=f"{metric}, {HEADLINE}",
        stamp=" · ".join(marks),
    )
    say(f"Plot: {path}")


def _open(paths: list[Path]) -> list[RunDir]:
    from nervecode.lab.run.directory import RunDir

    if len(paths) < 2:
        raise InputError(f"compare: found {len(paths)} run, allowed: two or more")
    names = [path.resolve().name for path in paths]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"compare: the run {twice} is given twice")
    return [RunDir(path.resolve()) for path in paths]


def _method(method: str | None, runs: list[RunDir], entries: list[Entry]) -> str:
    known = dict.fromkeys(entry.method for entry in entries)
    if method is not None and method not in known:
        raise InputError(f"--method: unknown {method!r}; {did_you_mean(method, known)}")
    return method or str(runs[0].meta["primary_method"])


def _state(run: RunDir) -> dict[str, Any]:
    """What a reader must know before any figure: failed and gated runs stay visible."""
    accuracy = run.meta["gate"]["accuracy"]
    return {
        "run": run.root.name,
        "status": run.status,
        "gate": gate_word(run),
        "demo": bool(run.meta.get("demo")),
        "seeds": run.meta["seeds"],
        "accuracy": min(accuracy.values()) if accuracy else None,
        "error": run.meta.get("error"),
    }


def _tables(
    runs: list[RunDir],
    entries: list[Entry],
    settings: dict[str, list[Any]],
    method: str,
    metric: str,
) -> list[Table]:
    from nervecode.lab.results.compare import HEADLINE
    from nervecode.lab.results.rows import LOWER_IS_BETTER
    from nervecode.lab.results.tables import Table

    short = [f"[{number}]" for number in range(1, len(runs) + 1)]
    heads = [_state_row(label, run) for label, run in zip(short, runs, strict=True)]
    head = ["", "run", "status", "gate", "ID accuracy", "seeds"]
    tables = [Table("Runs", head, heads, caption="ID accuracy: the lowest of the seeds")]
    body = [[key, *map(_plain, values)] for key, values in settings.items()]
    if body:
        tables.append(Table("Settings that differ", ["setting", *short], body))
    methods = {e.method: (e.method, HEADLINE) for e in entries if e.measure == HEADLINE}
    measures = {e.measure: (method, e.measure) for e in entries if e.method == method}
    for title, first, keys in (
        (f"{HEADLINE} of every method", "method", methods),
        (f"{method} on every set", "set", measures),
    ):
        if keys:
            arrow = "↓" if metric in LOWER_IS_BETTER else "↑"
            title = f"{metric} x100 {arrow}: {title}"
            tables.append(_results(title, first, keys, runs, entries, metric))
    return tables


def _results(
    title: str,
    first: str,
    keys: dict[str, tuple[str, str]],
    runs: list[RunDir],
    entries: list[Entry],
    metric: str,
) -> Table:
    """One line a label, one column a run; `keys` are (method, measure) of each label."""
    from nervecode.lab.results.rows import LOWER_IS_BETTER
    from nervecode.lab.results.tables import Table, stamp

    grid = {(e.method, e.measure, e.run): e for e in entries}
    body = [
        [label, *[_cell(grid.get((*key, run.root.name)), run) for run in runs]]
        for label, key in keys.items()
    ]
    head = [f"{stamp(run.meta)}[{number}]" for number, run in enumerate(runs, start=1)]
    lower = metric in LOWER_IS_BETTER
    means = [
        [grid[key].mean if (key := (*one, run.root.name)) in grid else None for run in runs]
        for one in keys.values()
    ]
    best, second = _marks(means, lower=lower)
    better = "lower" if lower else "higher"
    caption = (
        f"{better} is better; mean ± standard deviation (number of seeds); then the difference "
        "from [1] over the seeds that both have, with its 95 % interval (Student)"
    )
    return Table(title, [first, *head], body, best, second, caption)


def _marks(means: list[list[float | None]], *, lower: bool) -> tuple[Cells, Cells]:
    """The best and the second cells of each line of means, as they are shown; column 0 is names."""
    marks: tuple[set[tuple[int, int]], ...] = (set(), set())
    for r, line in enumerate(means):
        shown = [None if mean is None else round(100 * mean, 2) for mean in line]
        ranked = sorted({value for value in shown if value is not None}, reverse=not lower)
        for cells, value in zip(marks, ranked, strict=False):
            cells |= {(r, c) for c, one in enumerate(shown, start=1) if one == value}
    best, second = map(frozenset, marks)
    return best, second


def _state_row(label: str, run: RunDir) -> list[str]:
    state = _state(run)
    accuracy = f"{100 * state['accuracy']:.2f} %" if state["accuracy"] is not None else ""
    mark = " DEMO" if state["demo"] else ""
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


def _plain(value: Any) -> str:
    return "" if value is None else str(value)
