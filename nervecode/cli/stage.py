"""Stages of a run, shown while they work and written to the run's log."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nervecode.cli.log import log, logged
from nervecode.cli.options import command_line
from nervecode.cli.show import next_step, progress, say, say_takeover, show_table
from nervecode.cli.track import tracked
from nervecode.errors import GateError

if TYPE_CHECKING:
    from nervecode.lab.machine.progress import Progress
    from nervecode.lab.machine.tracking import Tracking
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.schema import Config
    from nervecode.lab.stages.bench import Outcome, Prepared


@contextmanager
def working(
    run: RunDir,
    config: Config | None = None,
    *,
    track: Sequence[str] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> Iterator[tuple[Progress, Tracking | None]]:
    """Claim a run within the block, whose log and display tell what is done.

    Another `config` than the run's takes its place first, and `notes` enter `meta.json`. The
    trackers named in `track` watch.
    """
    from nervecode.lab.stages.bench import guarded

    say_takeover(run)
    before = [*run.meta["stages"], *run.meta["derived"]]
    with (
        guarded(run, config),
        logged(run.root, command_line()),
        tracked(track, run) as tracking,
        progress(tracking) as shown,
    ):
        if notes:
            run.update(**notes)
        try:
            yield shown, tracking
        finally:
            _say_removed(run, before)


def _say_removed(run: RunDir, before: Sequence[str]) -> None:
    """Tell which stages a run had and has no more, since what they were made from is replaced."""
    gone = [key for key in before if key not in {**run.meta["stages"], **run.meta["derived"]}]
    if gone:
        say(
            f"removed, as it no longer belongs to what is there: {', '.join(gone)}; "
            f"`{run.command('bench')}` makes it again"
        )


def do_stage(
    run: RunDir,
    prepared: Prepared,
    name: str,
    *,
    config: Config | None = None,
    track: Sequence[str] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """Do the stage `name` for every seed; a run that fails in it says so. See `working`."""
    from nervecode.lab.stages.bench import run_stages

    with working(run, config, track=track, notes=notes) as (shown, _):
        run_stages(run, prepared, (name,), progress=shown)


def do_bench(
    run: RunDir,
    prepared: Prepared,
    *,
    config: Config,
    began: float,
    repair: bool = False,
    plots: bool = True,
    allow_low_accuracy: bool = False,
    as_json: bool = False,
    track: Sequence[str] | None = None,
    notes: Mapping[str, Any] | None = None,
) -> None:
    """All stages with tables, pictures and the page, and what came of them. See `working`.

    Raises:
        GateError: a seed did not reach the accuracy gate, and figures are withheld.
    """
    from nervecode.lab.run.records import forget_damaged_stages
    from nervecode.lab.stages.bench import run_bench
    from nervecode.viz.stages import plots_and_report

    with working(run, config, track=track, notes=notes) as (shown, tracking):
        for stage in forget_damaged_stages(run) if repair else ():
            shown.tell(f"again: {stage}")
        outcome = run_bench(
            run, prepared, progress=shown, allow_low_accuracy=allow_low_accuracy,
            after=plots_and_report if plots else None,
        )  # fmt: skip
        if outcome is None:
            return
        if tracking is not None:
            tracking.table("tables", (run.root / "tables.md").read_text(encoding="utf-8"))
            for path in _plots(run, outcome):
                tracking.picture(path.stem, path)
        log(f"done: {run.status}")
    _show_outcome(run, outcome, as_json=as_json)
    say(f"Done in {time.monotonic() - began:.0f} s. Run: {run.root}")
    if outcome.withheld:
        raise GateError(_verdict(run))
    next_step("plot", run.root, "--kind", "layerwise")


def _plots(run: RunDir, outcome: Outcome) -> list[Path]:
    """The pictures of the rows; there are none without figures, or where nobody wanted any."""
    stage = run.meta["derived"].get("plots") if outcome.rows and not outcome.withheld else None
    return [run.root / name for name in stage["outputs"]] if stage else []


def _show_outcome(run: RunDir, outcome: Outcome, *, as_json: bool) -> None:
    from nervecode.lab.results.rows import document
    from nervecode.lab.results.tables import all_tables

    if as_json:
        typer.echo(json.dumps(document(run, outcome.rows, outcome.gate)))
    else:
        for table in all_tables(run.meta, outcome.rows):
            show_table(table)
    if plots := _plots(run, outcome):
        say(f"Plots: {plots[0].parent}")
    if "report" in run.meta["derived"]:
        say(f"Report: {run.root / 'report.html'}")


def _verdict(run: RunDir) -> str:
    gate = run.meta["gate"]
    accuracies = ", ".join(f"seed {seed}: {value:.4g}" for seed, value in gate["accuracy"].items())
    return (
        f"accuracy gate {gate['required']:.4g} not passed ({accuracies}); tables are withheld. "
        f"`{run.command('bench', '--allow-low-accuracy')}` shows them as failed-gate diagnostics"
    )
