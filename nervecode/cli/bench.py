"""`nervecode bench`."""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli import options
from nervecode.cli.log import log, logged
from nervecode.cli.opening import open_run
from nervecode.cli.options import (
    AnyRun,
    CheckpointSha256,
    CheckpointUri,
    ConfigFile,
    Deterministic,
    Device,
    OutDir,
    Overrides,
    Preset,
    Seeds,
)
from nervecode.cli.report import make_plots, make_report
from nervecode.cli.several import several
from nervecode.cli.show import next_step, progress, say, say_takeover, show_table
from nervecode.cli.track import Track, tracked
from nervecode.errors import GateError
from nervecode.lab.machine.progress import Progress

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.schema import Config
    from nervecode.lab.stages.bench import Prepared


@several
def bench(
    run: AnyRun = None,
    preset: Preset = None,
    config: ConfigFile = None,
    seeds: Seeds = None,
    device: Device = None,
    outdir: OutDir = Path("runs"),
    override: Overrides = None,
    deterministic: Deterministic = None,
    checkpoint_uri: CheckpointUri = None,
    checkpoint_sha256: CheckpointSha256 = None,
    limit_eval: Annotated[
        int | None, typer.Option(help="At most so many inputs per evaluated set.")
    ] = None,
    accuracy_gate: Annotated[
        float | None, typer.Option(help="ID test accuracy that every seed must reach.")
    ] = None,
    allow_low_accuracy: Annotated[
        bool,
        typer.Option("--allow-low-accuracy", help="Show figures of a failed gate, marked as such."),
    ] = False,
    track: Track = None,
    repair: Annotated[
        bool, typer.Option("--repair", help="Do stages again whose files are missing or damaged.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Train, calibrate and score; then tables and a report. Resumed where it stands.

    Example: nervecode bench --preset digits
    """
    from nervecode.lab.machine.tracking import check_trackers

    began = time.monotonic()
    check_trackers(track or ())
    settings = {
        "bench.limit_eval": limit_eval,
        "bench.accuracy_gate": accuracy_gate,
        "deterministic": deterministic,
    }
    label = options.checkpoint_label(checkpoint_uri, checkpoint_sha256)
    found, new, prepared = open_run(
        "bench", run, preset, config, seeds, device, outdir, override, settings
    )
    say(f"Run: {found.root}")
    from nervecode.lab.ranks.job import current
    from nervecode.lab.stages.bench import guarded

    def work() -> Any:
        with logged(found.root, options.command_line()):
            found.update(**label)
            return _work(
                found, new, prepared, repair=repair, allowed=allow_low_accuracy, track=track
            )

    say_takeover(found)
    if not current().leads:
        guarded(found, functools.partial(_follow, found, new, prepared))
        return
    outcome, withheld, plots, report = guarded(found, work)
    _report(found, outcome, as_json)
    if plots:
        say(f"Plots: {plots[0].parent}")
    say(f"Report: {report}")
    say(f"Done in {time.monotonic() - began:.0f} s. Run: {found.root}")
    if withheld:
        raise GateError(_verdict(found))
    next_step("plot", found.root, "--kind", "layerwise")


def _work(
    run: RunDir,
    config: Config,
    prepared: Prepared,
    *,
    repair: bool,
    allowed: bool,
    track: list[str] | None,
) -> tuple[Any, bool, list[Path], Path]:
    """The outcome, whether its figures are withheld, the pictures and the page."""
    from nervecode.lab.run.directory import forget_damaged_stages
    from nervecode.lab.stages.bench import run_bench

    if config != run.config:
        run.replace_config(config)
    for stage in forget_damaged_stages(run) if repair else ():
        say(f"again: {stage}")
    with tracked(track, run) as tracking, progress(tracking) as shown:
        outcome = run_bench(run, prepared, allow_low_accuracy=allowed, progress=shown)
        withheld = not outcome.gate["passed"] and not allowed
        plots = [] if withheld else make_plots(run, shown)
        if tracking is not None:
            tracking.table("tables", (run.root / "tables.md").read_text(encoding="utf-8"))
            for path in plots:
                tracking.picture(path.stem, path)
    report = make_report(run)
    log(f"done: {run.status}")
    return outcome, withheld, plots, report


def _follow(run: RunDir, config: Config, prepared: Prepared) -> None:
    """Take part in the stages; tables and pictures are the first process's."""
    from nervecode.lab.stages.bench import STAGES, run_stages

    run.replace_config(config)
    run_stages(run, prepared, tuple(STAGES), progress=Progress())


def _report(run: RunDir, outcome: Any, as_json: bool) -> None:
    from nervecode.lab.results.rows import document
    from nervecode.lab.results.tables import all_tables

    if as_json:
        typer.echo(json.dumps(document(run, outcome.rows, outcome.gate)))
        return
    for table in all_tables(run.meta, outcome.rows):
        show_table(table)


def _verdict(run: RunDir) -> str:
    gate = run.meta["gate"]
    found = ", ".join(f"seed {seed}: {value:.4g}" for seed, value in gate["accuracy"].items())
    return (
        f"accuracy gate {gate['required']:.4g} not passed ({found}); tables are withheld. "
        f"`nervecode bench {run.root} --allow-low-accuracy` shows them as failed-gate diagnostics"
    )
