"""`nervecode plot`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nervecode.cli.options import Run, completing
from nervecode.cli.show import next_step, say
from nervecode.errors import ArtifactError, InputError, did_you_mean

ALL = "all"
OWN = {  # option -> the one kind that has it
    "sample": "trace",
    **dict.fromkeys(("scored", "alpha", "run-length", "by-class", "skip-bad"), "stream"),
}
WITHOUT_SETS = ("training", "codebooks", "calibration")  # kinds that show no OOD set
KIND_HELP = (
    "layerwise, heat, trace, roc, scores, matrix, calibration, training, codebooks, stream, or all."
)


def _kinds() -> tuple[str, ...]:
    from nervecode.viz import KINDS

    return (*KINDS, ALL)


def plot(
    run: Run,
    kind: Annotated[
        str, typer.Option(help=KIND_HELP, autocompletion=completing(_kinds))
    ] = "layerwise",
    seed: Annotated[int | None, typer.Option(help="Default: the first seed.")] = None,
    ood: Annotated[str | None, typer.Option(help="OOD sets, such as a,b; default: all.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="Of --kind trace: which input; default the most surprising.")
    ] = None,
    scored: Annotated[
        Path | None, typer.Option(help="Of --kind stream: a file that `score` wrote.")
    ] = None,
    alpha: Annotated[float | None, typer.Option(help="Of --kind stream: as of `watch`.")] = None,
    run_length: Annotated[
        float | None, typer.Option(help="Of --kind stream: as of `watch`.")
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Of --kind stream: as of `watch`.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Of --scored: as of `watch`.")
    ] = False,
    output: Annotated[Path | None, typer.Option(help="FILE.png, .svg or .pdf.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
) -> None:
    """Draw a run from its saved files.

    Example: nervecode plot runs/digits-… --kind roc --output roc.svg
    """
    from nervecode.viz import KINDS
    from nervecode.viz.picture import POOLED
    from nervecode.viz.stages import drawing

    if kind not in _kinds():
        raise InputError(f"--kind: unknown {kind!r}; {did_you_mean(kind, _kinds())}")
    if not run.is_dir():
        raise InputError(f"{run}: no such run directory")
    own = {
        "sample": sample,
        "scored": scored,
        "alpha": alpha,
        "run-length": run_length,
        "by-class": by_class or None,
        "skip-bad": skip_bad or None,
    }
    own = {name: value for name, value in own.items() if value is not None}
    for name in own:
        if kind != OWN[name]:
            raise InputError(
                f"--{name}: found with --kind {kind}, allowed: with --kind {OWN[name]}"
            )
    if seed is not None and kind in POOLED:
        raise InputError(f"--seed: found with --kind {kind}, allowed: with kinds of one seed")
    if ood is not None and (kind in WITHOUT_SETS or scored is not None):
        where = "--scored" if scored is not None else f"--kind {kind}"
        raise InputError(f"--ood: found with {where}, allowed: with kinds that show OOD sets")
    options = {name.replace("-", "_"): value for name, value in own.items()}
    chosen = [name.strip() for name in ood.split(",")] if ood else None
    if kind == ALL and output is not None:
        raise InputError("--output: found with --kind all, allowed: with one kind")
    with drawing(run, output) as enter:
        if kind == ALL:
            _plot_all(run, enter, seed=seed, ood=chosen)
        else:
            path = KINDS[kind](run, seed=seed, ood=chosen, output=output, force=force, **options)
            enter(path)
            typer.echo(path)
    if kind == ALL:
        next_step("report", run)
    else:
        next_step("plot", run, "--kind", ALL)


def _plot_all(run: Path, enter: Callable[[Path], None], **options: Any) -> None:
    """Every kind that the run has the files for, into its own `plots/`."""
    from nervecode.viz import KINDS

    for kind, draw in KINDS.items():
        try:
            path = draw(run, **options)
        except ArtifactError as error:
            say(f"skipped: {kind} ({error})")
            continue
        enter(path)
        typer.echo(path)
