"""`nervecode plot`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nervecode.cli.options import Run
from nervecode.cli.show import next_step
from nervecode.errors import InputError, did_you_mean


def plot(
    run: Run,
    kind: Annotated[str, typer.Option(help="layerwise, roc, scores or training.")] = "layerwise",
    seed: Annotated[int | None, typer.Option(help="Default: the first seed.")] = None,
    ood: Annotated[str | None, typer.Option(help="OOD sets, such as a,b; default: all.")] = None,
    output: Annotated[Path | None, typer.Option(help="FILE.png, .svg or .pdf.")] = None,
    force: Annotated[bool, typer.Option(help="Replace an output that exists.")] = False,
) -> None:
    """Draw a run from its saved files.

    Example: nervecode plot runs/digits-… --kind roc --output roc.svg
    """
    from nervecode.viz import KINDS

    if kind not in KINDS:
        raise InputError(f"--kind: unknown {kind!r}; {did_you_mean(kind, KINDS)}")
    if not run.is_dir():
        raise InputError(f"{run}: no such run directory")
    chosen = [name.strip() for name in ood.split(",")] if ood else None
    path = KINDS[kind](run, seed=seed, ood=chosen, output=output, force=force)
    typer.echo(path)
    others = [other for other in KINDS if other != kind]
    next_step("plot", run, "--kind", others[0])
