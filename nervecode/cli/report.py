"""`nervecode report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nervecode.cli.options import Run
from nervecode.cli.show import next_step, progress


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
    from nervecode.viz.report import write_report
    from nervecode.viz.stages import drawing, refresh

    if output is None:
        with progress() as shown:
            path = refresh(RunDir(run), shown)
    else:
        with drawing(run, output) as enter:
            path = write_report(run, output=output, force=force)
            enter(path)
    typer.echo(path)
    if show:
        typer.launch(path.resolve().as_uri())
    next_step("compare", run, "RUN")
