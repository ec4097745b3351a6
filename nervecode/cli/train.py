"""`nervecode train`."""

from __future__ import annotations

import typer

from nervecode.cli import options
from nervecode.cli.estimate import show_estimate
from nervecode.cli.opening import named_run, open_run
from nervecode.cli.options import (
    AnyRun,
    CheckpointSha256,
    CheckpointUri,
    ConfigFile,
    Deterministic,
    Device,
    DryRun,
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


@several
def train(
    run: AnyRun = None,
    preset: Preset = None,
    config: ConfigFile = None,
    seeds: Seeds = None,
    device: Device = None,
    outdir: OutDir = None,
    override: Overrides = None,
    deterministic: Deterministic = None,
    checkpoint_uri: CheckpointUri = None,
    checkpoint_sha256: CheckpointSha256 = None,
    track: Track = None,
    dry_run: DryRun = False,
    trust_code: TrustCode = False,
) -> None:
    """Train the classifier of a config. One checkpoint per seed. Goes on where it stopped.

    Example: nervecode train --preset digits --seeds 0,1
    """
    from nervecode.lab.machine.tracking import check_trackers

    check_trackers(track or ())
    settings = {"deterministic": deterministic}
    label = options.checkpoint_label(checkpoint_uri, checkpoint_sha256)
    named = ("train", run, preset, config, seeds, device, override, settings)
    if dry_run:
        show_estimate(*named_run(*named, outdir=outdir))
        return
    opened, new, prepared = open_run(*named, outdir=outdir)
    say(f"Run: {opened.root}")
    do_stage(opened, prepared, "train", config=new, track=track, notes=label)
    for seed in new.seeds:
        typer.echo(opened.paths.checkpoint(seed))
    next_step("calibrate", opened.root)
