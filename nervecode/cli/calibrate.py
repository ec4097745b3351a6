"""`nervecode calibrate`."""

from __future__ import annotations

import typer

from nervecode.cli.options import Run
from nervecode.cli.several import several
from nervecode.cli.show import next_step
from nervecode.cli.stage import do_stage


@several
def calibrate(run: Run) -> None:
    """Fit and calibrate the codes of a trained run. For every seed.

    Example: nervecode calibrate runs/digits-…
    """
    from nervecode.lab.run.directory import require_stage
    from nervecode.lab.run.shared import open_shared
    from nervecode.lab.stages.bench import prepare

    found = open_shared(run)
    require_stage(found, "train")
    prepared = prepare(found.config)
    do_stage(found, prepared, "calibrate")
    for seed in found.config.seeds:
        typer.echo(found.paths.calibration(seed))
    next_step("bench", run)
