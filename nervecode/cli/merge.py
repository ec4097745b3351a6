"""`nervecode merge`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nervecode.cli.show import say


def merge(
    shards: Annotated[
        list[Path], typer.Argument(help="Every shard of one scoring.", metavar="SHARD…")
    ],
    output: Annotated[Path, typer.Option(help="FILE.csv, .jsonl or .npz.")],
    fdr: Annotated[
        float | None,
        typer.Option(help="Flag anew: of the flagged, at most this fraction is ID on average."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
) -> None:
    """Join the shards that `nervecode score --shard` wrote. Bit for bit the scores of one go.

    Example: nervecode merge scores.shard-*.npz --output scores.csv
    """
    from nervecode.lab.inference.merge import merge_shards

    summary = merge_shards(shards, output, fdr=fdr, force=force)
    typer.echo(output)
    rate = "" if fdr is None else f" at a false-discovery rate of {fdr:g}"
    say(f"{summary.count} inputs of {len(shards)} shards: {summary.flagged} flagged{rate}")
