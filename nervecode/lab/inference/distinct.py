"""Distinct: the names of scored inputs, of which no two may be the same, however many there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryFile
from zlib import crc32

from nervecode.errors import InputError
from nervecode.lab.inference.scored import Scored

BUCKETS = 128  # equal names meet in one of them, each of which fits the memory


def distinct(chunks: Iterable[Scored], folder: Path) -> Iterator[Scored]:
    """The same chunks; their names are kept in files without a name in a folder.

    Raises:
        InputError: a name that comes twice, once all are seen.
    """
    with ExitStack() as stack:
        buckets = [stack.enter_context(TemporaryFile(dir=folder)) for _ in range(BUCKETS)]
        for chunk in chunks:
            for name in chunk.ids.tolist():
                data = name.encode("utf-8", "surrogateescape")
                buckets[crc32(data) % BUCKETS].write(data + b"\0")
            yield chunk
        for bucket in buckets:
            bucket.seek(0)
            _check(bucket.read().split(b"\0")[:-1])


def _check(names: list[bytes]) -> None:
    if len(set(names)) == len(names):
        return
    seen: set[bytes] = set()
    for name in names:
        if name in seen:
            text = name.decode("utf-8", "surrogateescape")
            raise InputError(f"id {text!r}: found twice, allowed: each input has a name of its own")
        seen.add(name)
