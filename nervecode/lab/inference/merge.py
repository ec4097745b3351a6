"""Merge: the scores of all shards in one file. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from nervecode.lab.inference.distinct import distinct
from nervecode.lab.inference.output import check_output, write_scored
from nervecode.lab.inference.scored import Summary, some
from nervecode.lab.inference.shards import check_shards, read_chunks


def merge_shards(shards: Sequence[Path], output: Path, *, force: bool = False) -> Summary:
    """Join the files of all shards of one scoring, in any order, into one.

    Raises:
        InputError: an output that must not be written, or shards that do not belong together.
        ArtifactError: a shard that is missing or damaged.
    """
    check_output(output, force=force)
    paths = check_shards(shards)
    summary = Summary()
    chunks = some((chunk for path in paths for chunk in read_chunks(path)), "the shards")
    write_scored(distinct(summary.watching(chunks), output.parent), output, force=force)
    return summary
