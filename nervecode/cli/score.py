"""`nervecode score`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.options import Device, Run
from nervecode.cli.show import next_step, progress, say, show_table

if TYPE_CHECKING:
    from nervecode.lab.scored import Scored

SHOWN = 10


def score(
    run: Run,
    input: Annotated[
        str, typer.Option("--input", help="Image folder, .npy or .npz array, or a data set's name.")
    ],
    output: Annotated[Path | None, typer.Option(help="FILE.csv, .jsonl or .npz.")] = None,
    alpha: Annotated[float, typer.Option(help="Flag p-values up to here.")] = 0.05,
    seed: Annotated[int | None, typer.Option(help="Which seed's model; default the first.")] = None,
    device: Device = None,
    force: Annotated[bool, typer.Option(help="Replace an output that exists.")] = False,
    skip_bad: Annotated[bool, typer.Option(help="Leave unreadable images out.")] = False,
) -> None:
    """Score new inputs: percentile, p-value, flag, and the surprise of each layer in bits.

    Example: nervecode score runs/digits-… --input pictures/ --output scores.csv
    """
    from nervecode.lab.bench import load_primary
    from nervecode.lab.inputs import read_inputs
    from nervecode.lab.run import RunDir
    from nervecode.lab.scored import check_alpha, check_output, score_inputs, write_scored

    check_alpha(alpha)
    if output is not None:
        check_output(output, force=force)
    found = RunDir(run)
    wrapped, shape = load_primary(found, seed, device=device)
    inputs = read_inputs(input, shape, skip_bad=skip_bad)
    for name in inputs.skipped:
        say(f"skipped: {name} (not a readable image)")
    with progress() as shown:
        scored = score_inputs(wrapped, inputs, alpha=alpha, progress=shown)
    _summary(scored, input, alpha)
    if output is None:
        _show(scored)
        next_step("score", run, "--input", input, "--output", "scores.csv")
    else:
        write_scored(scored, output, force=force)
        typer.echo(output)
        next_step("plot", run)


def _summary(scored: Scored, source: str, alpha: float) -> None:
    flagged = int(scored.flag.sum())
    say(f"{len(scored.ids)} inputs from {source}: {flagged} flagged at alpha {alpha:g} "
        f"({100 * flagged / len(scored.ids):.1f} %)")  # fmt: skip


def _show(scored: Scored) -> None:
    from nervecode.lab.tables import Table

    order = (-scored.surprise).argsort()[:SHOWN]
    body = [
        [
            scored.ids[i],
            f"{scored.percentile[i]:.1f}",
            f"{scored.p_value[i]:.4f}",
            "yes" if scored.flag[i] else "",
            str(scored.prediction[i]),
            *[f"{bits:.0f}" for bits in scored.by_layer[i]],
        ]
        for i in order
    ]
    header = ["input", "percentile", "p-value", "flag", "class", *scored.layers]
    caption = "the most surprising first; the last columns are bits per layer"
    show_table(Table(f"{len(order)} of {len(scored.ids)} inputs", header, body, caption=caption))
