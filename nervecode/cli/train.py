"""`nervecode train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli import options
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
    TrustCode,
)
from nervecode.cli.several import several
from nervecode.cli.show import next_step, say
from nervecode.cli.stage import do_stage
from nervecode.cli.track import Track

if TYPE_CHECKING:
    from nervecode.lab.stages.dry_run import Estimate


@several
def train(
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
    track: Track = None,
    dry_run: Annotated[
        bool,
        typer.Option("--dry-run", help="Build everything, run one batch, estimate; write nothing."),
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Train the classifier of a config, a checkpoint a seed. Resumed where it stands.

    Example: nervecode train --preset digits --seeds 0,1
    """
    from nervecode.lab.machine.tracking import check_trackers

    check_trackers(track or ())
    settings = {"deterministic": deterministic}
    label = options.checkpoint_label(checkpoint_uri, checkpoint_sha256)
    if dry_run:
        from nervecode.lab.stages.dry_run import dry_run as estimate

        chosen = options.resolve_options(preset, config, seeds, device, override, **settings)
        _show_estimate(estimate(chosen.config))
        return
    opened, new, prepared = open_run(
        "train", run, preset, config, seeds, device, outdir, override, settings
    )
    say(f"Run: {opened.root}")
    do_stage(opened, prepared, "train", config=new, track=track, notes=label)
    for seed in new.seeds:
        typer.echo(opened.paths.checkpoint(seed))
    next_step("calibrate", opened.root)


def _show_estimate(estimate: Estimate) -> None:
    typer.echo(f"device      {estimate.device}")
    typer.echo(f"parameters  {estimate.parameters:,}")
    typer.echo(f"layers      {', '.join(estimate.layers)}")
    for name, size in estimate.split_sizes.items():
        typer.echo(f"  {size:>8,}  {name}")
    typer.echo(f"training    about {estimate.train_seconds:.0f} s for all seeds")
    typer.echo(f"memory      about {estimate.memory_mb:.0f} MB besides PyTorch itself")
    typer.echo(f"disk        about {estimate.disk_mb:.0f} MB")
    say("Nothing was written. Next: the same command without --dry-run")
