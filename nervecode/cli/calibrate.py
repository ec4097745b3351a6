"""`nervecode calibrate`."""

from __future__ import annotations

import typer

from nervecode.cli.options import Run
from nervecode.cli.show import next_step, progress, say_takeover


def calibrate(run: Run) -> None:
    """Fit and calibrate the codes of a trained run, for every seed.

    Example: nervecode calibrate runs/digits-…
    """
    from nervecode.lab.bench import guarded, prepare, run_stages
    from nervecode.lab.run import RunDir

    found = RunDir(run)
    found.require_stage("train")
    prepared = prepare(found.config)
    say_takeover(found)
    with progress() as shown:
        guarded(found, lambda: run_stages(found, prepared, ("calibrate",), progress=shown))
    for seed in found.config.seeds:
        typer.echo(found.calibration(seed))
    next_step("bench", run)
