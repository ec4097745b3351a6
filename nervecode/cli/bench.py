"""`nervecode bench`."""

from __future__ import annotations

import time
from typing import Annotated

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
from nervecode.cli.show import say
from nervecode.cli.stage import do_bench
from nervecode.cli.track import Track


@several
def bench(
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
    dry_run: DryRun = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Train, calibrate and score; then tables and a report. Goes on where it stopped.

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
    named = ("bench", run, preset, config, seeds, device, override, settings)
    if dry_run:
        show_estimate(*named_run(*named, outdir=outdir))
        return
    opened, new, prepared = open_run(*named, outdir=outdir)
    say(f"Run: {opened.root}")
    do_bench(
        opened, prepared, config=new, began=began, repair=repair,
        allow_low_accuracy=allow_low_accuracy, as_json=as_json, track=track, notes=label,
    )  # fmt: skip
