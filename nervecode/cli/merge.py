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
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
) -> None:
    """Join the shards that `nervecode score --shard` wrote. Bit for bit the scores of one go.

    Example: nervecode merge scores.shard-*.npz --output scores.csv
    """
    from nervecode.lab.inference.distinct import distinct
    from nervecode.lab.inference.output import check_output, write_scored
    from nervecode.lab.inference.scored import Tally, some
    from nervecode.lab.inference.shards import check_shards, read_chunks

    check_output(output, force=force)
    paths = check_shards(shards)
    tally = Tally()
    chunks = some((chunk for path in paths for chunk in read_chunks(path)), "the shards")
    write_scored(distinct(tally.watching(chunks), output.parent), output, force=force)
    typer.echo(output)
    say(f"{tally.count} inputs of {len(paths)} shards: {tally.flagged} flagged")
