"""`nervecode compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.formats import Csv, Json, Latex, Markdown, chosen_format, emit
from nervecode.cli.show import next_step, say
from nervecode.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from nervecode.lab.results.compare import Entry
    from nervecode.lab.run.directory import RunDir


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
    from nervecode.lab.results.side_by_side import comparison_tables, run_state
    from nervecode.lab.run.meta import serves_score

    form = chosen_format(json=as_json, csv=as_csv, md=as_md, latex=as_latex)
    if metric not in METRICS:
        raise InputError(f"--metric: unknown {metric!r}; {did_you_mean(metric, METRICS)}")
    opened = _open(runs)
    entries = compare_runs(opened, metric)
    if picture is not None:
        _draw(picture, opened, entries, metric, force=force)
    chosen = _method(method, opened, entries)
    rows, data = [entry.row() for entry in entries], differing_data(opened)
    document = {
        "metric": metric,
        "runs": [run_state(run) for run in opened],
        "settings": differing_settings(opened),
        "different_data": data,
        "entries": rows,
    }
    tables = comparison_tables(opened, entries, metric=metric, method=chosen)
    emit(form, tables, rows=rows, document=document)
    if data:
        say(f"Not the same data in every run: {', '.join(data)}")
    if shown := [run.root for run in opened if not serves_score(run.meta)]:
        next_step("report", shown[0])


def _draw(
    path: Path, runs: list[RunDir], entries: list[Entry], metric: str, *, force: bool
) -> None:
    """A critical-difference picture, with each run as a setting."""
    from nervecode.files import check_new
    from nervecode.lab.results.compare import HEADLINE, rank_methods
    from nervecode.lab.results.tables import marks
    from nervecode.lab.run.paths import check_outside_runs
    from nervecode.viz.critical_difference import plot_critical_difference
    from nervecode.viz.style import SUFFIXES

    check_new(path, SUFFIXES, force=force)
    check_outside_runs(path, "output")
    plot_critical_difference(
        rank_methods(entries, metric),
        path,
        highlight=str(runs[0].meta["primary_method"]),
        measure=f"{metric}, {HEADLINE}",
        stamp=" · ".join(dict.fromkeys(mark for run in runs for mark in marks(run.meta))),
    )
    say(f"Plot: {path}")


def _open(paths: list[Path]) -> list[RunDir]:
    from nervecode.lab.run.directory import RunDir

    if len(paths) < 2:
        raise InputError(f"compare: found {len(paths)} run, allowed: two or more")
    paths = [path.resolve() for path in paths]
    names = [path.name for path in paths]
    twice = next((path for path in paths if names.count(path.name) > 1), None)
    if twice:
        others = "is given twice" if paths.count(twice) > 1 else "is the name of two: rename one"
        raise InputError(f"compare: the run {twice.name} {others}")
    return [RunDir(path) for path in paths]


def _method(method: str | None, runs: list[RunDir], entries: list[Entry]) -> str:
    known = dict.fromkeys(entry.method for entry in entries)
    if method is not None and method not in known:
        raise InputError(f"--method: unknown {method!r}; {did_you_mean(method, known)}")
    return method or str(runs[0].meta["primary_method"])
