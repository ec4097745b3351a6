"""Estimate: what `--dry-run` shows of a config, of which nothing is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from nervecode.cli.show import progress, say

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.schema import Config


def show_estimate(run: RunDir | None, config: Config) -> None:
    """Build everything of a config, run a few steps, and show sizes, time and memory.

    `run` is the one that is to go on with the config; None where there will be a new one.
    """
    from nervecode.lab.stages.dry_run import dry_run

    with progress():
        estimate = dry_run(config, run)
    for remark in estimate.remarks:
        say(remark)
    typer.echo(f"device      {estimate.device}")
    typer.echo(f"parameters  {estimate.parameters:,}")
    typer.echo(f"layers      {', '.join(estimate.layers)}")
    for name, size in estimate.split_sizes.items():
        typer.echo(f"  {size:>8,}  {name}")
    typer.echo(f"training    about {estimate.train_seconds:.0f} s for all seeds")
    typer.echo(f"memory      about {estimate.memory_mb:.0f} MB besides PyTorch itself")
    typer.echo(f"disk        about {estimate.disk_mb:.0f} MB")
    say("Nothing was written. Next: the same command without --dry-run")
