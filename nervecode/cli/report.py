"""`nervecode report`, and the pictures and the page that end a bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode import __version__
from nervecode.cli.options import Run
from nervecode.cli.show import next_step, progress

if TYPE_CHECKING:
    from nervecode.lab.machine.progress import Progress
    from nervecode.lab.run.directory import RunDir

PLOTS = ("layerwise", "scores", "roc", "matrix", "calibration", "training")


def report(
    run: Run,
    output: Annotated[
        Path | None, typer.Option(help="FILE.html; default: the run's own report.html.")
    ] = None,
    show: Annotated[bool, typer.Option("--open", help="Show it in the browser.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
) -> None:
    """Write a run's report: one page that needs no network. Nor a script, to be read.

    Example: nervecode report runs/digits-… --open
    """
    from nervecode.lab.run.directory import RunDir

    found = RunDir(run)
    if output is None:
        path = _refresh(found)
    else:
        from nervecode.viz.report import write_report

        path = write_report(run, output=output, force=force)
    typer.echo(path)
    if show:
        typer.launch(path.resolve().as_uri())
    next_step("compare", run, "RUN")


def make_plots(run: RunDir, shown: Progress) -> list[Path]:
    """The stage `plots`: the pictures of the first seed."""
    from nervecode.viz import KINDS

    seed = run.meta["seeds"][0]
    learned = run.paths.diagnostics(seed).is_file()
    kinds = [*PLOTS, "codebooks"] if learned else list(PLOTS)

    def work() -> list[Path]:
        return [
            KINDS[kind](run.root, seed=seed) for kind in shown.track("plots", kinds, len(kinds))
        ]

    tables = run.meta["stages"]["tables"]["outputs"]
    inputs = {"tables": tables, "gate": run.meta["gate"], "kinds": kinds}
    run.stage("plots", None, inputs, work)
    return [run.root / path for path in run.meta["stages"]["plots"]["outputs"]]


def make_report(run: RunDir) -> Path:
    """The stage `report`: the page, with the pictures that are there."""

    def work() -> list[Path]:
        from nervecode.viz.report import write_report

        return [write_report(run.root)]

    before = {k: v["outputs"] for k, v in run.meta["stages"].items() if k != "report"}
    inputs = {"stages": before, "status": run.meta["status"], "version": __version__}
    run.stage("report", None, inputs, work)
    return run.root / "report.html"


def _refresh(run: RunDir) -> Path:
    """Draw what is missing and write the page again, whatever the run has."""
    from nervecode.lab.results.rows import read_rows

    rows = read_rows(run)["rows"]
    with run.claimed(), progress() as shown:
        if not any(row["status"] == "not_reported" for row in rows):
            make_plots(run, shown)
        run.update(stages={k: v for k, v in run.meta["stages"].items() if k != "report"})
        return make_report(run)
