"""Merge: the scores of all shards in one file. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nervecode.files import check_apart
from nervecode.lab.inference.distinct import distinct
from nervecode.lab.inference.output import check_output, write_scored
from nervecode.lab.inference.scored import Scored, Summary, some
from nervecode.lab.inference.selection import selected
from nervecode.lab.inference.shards import check_shards, read_chunks
from nervecode.lab.run.paths import check_outside_runs
from nervecode.rates import check_rate


def merge_shards(
    shards: Sequence[Path], output: Path, *, fdr: float | None = None, force: bool = False
) -> Summary:
    """Join the files of all shards of one scoring, in any order, into one.

    Args:
        shards: the files.
        output: a `.csv`, `.jsonl` or `.npz` file.
        fdr: flag with control of this false-discovery rate, see `selected`; None leaves the flags.
        force: replace a file that exists.

    Raises:
        InputError: an output that must not be written, or shards that do not belong together.
        ArtifactError: a shard that is missing or damaged.
    """
    check_output(output, force=force)
    check_outside_runs(output)
    for shard in shards:
        check_apart(output, shard, what="--output")
    if fdr is not None:
        check_rate("--fdr", fdr)
    paths = check_shards(shards)
    summary = Summary()

    def rows() -> Iterator[Scored]:
        return (chunk for path in paths for chunk in read_chunks(path))

    chunks = some(rows() if fdr is None else selected(rows, fdr), "the shards")
    write_scored(distinct(summary.watching(chunks), output.parent), output, force=force)
    return summary
