"""`nervecode train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli import options
from nervecode.cli.options import ConfigFile, Device, OutDir, Overrides, Preset, Seeds
from nervecode.cli.show import next_step, progress, say

if TYPE_CHECKING:
    from nervecode.lab.dry_run import Estimate


def train(
    preset: Preset = None,
    config: ConfigFile = None,
    seeds: Seeds = None,
    device: Device = None,
    outdir: OutDir = Path("runs"),
    override: Overrides = None,
    dry_run: Annotated[
        bool, typer.Option(help="Build everything, run one batch, estimate; write nothing.")
    ] = False,
) -> None:
    """Train the classifier of a config, one checkpoint a seed.

    Example: nervecode train --preset digits --seeds 0,1
    """
    config_ = options.resolve_options(preset, config, seeds, device, override).config
    if dry_run:
        from nervecode.lab.dry_run import dry_run as estimate

        _show_estimate(estimate(config_))
        return
    from nervecode.lab.bench import guarded, prepare, run_stages
    from nervecode.lab.run import RunDir

    prepared = prepare(config_)
    run = RunDir.create(config_, outdir, command=options.command_line())
    say(f"Run: {run.root}")
    with progress() as shown:
        guarded(run, lambda: run_stages(run, prepared, ("train",), progress=shown))
    for seed in config_.seeds:
        typer.echo(run.checkpoint(seed))
    next_step("calibrate", run.root)


def _show_estimate(found: Estimate) -> None:
    typer.echo(f"device      {found.device}")
    typer.echo(f"parameters  {found.parameters:,}")
    typer.echo(f"layers      {', '.join(found.layers)}")
    for name, size in found.split_sizes.items():
        typer.echo(f"  {size:>8,}  {name}")
    typer.echo(f"training    about {found.train_seconds:.0f} s for all seeds")
    typer.echo(f"memory      about {found.memory_mb:.0f} MB besides PyTorch itself")
    typer.echo(f"disk        about {found.disk_mb:.0f} MB")
    say("Nothing was written. Next: the same command without --dry-run")
