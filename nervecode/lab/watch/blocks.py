"""Bytes as they come, of a pipe or a growing file, and the lines that they make."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from nervecode.errors import InputError

BLOCK = 1 << 16  # bytes read at a time
MAX_RECORD = 1 << 20  # bytes
KNOWN = 64  # bytes before a place by which it is known again
WAIT = 0.2  # seconds


class Line(NamedTuple):
    """A line of so many bytes, with its end; of a longer one than `MAX_RECORD` the last bytes."""

    data: bytes
    size: int


class Lines:
    """Lines made of blocks of bytes, in bounded memory.

    Attributes:
        rest: the part of a line that has no end yet.
    """

    def __init__(self) -> None:
        self.rest = Line(b"", 0)

    def of(self, block: bytes) -> Iterator[Line]:
        """The lines that end in the next block."""
        *ended, rest = block.split(b"\n")
        for part in ended:
            line = self._longer(part + b"\n")
            self.rest = Line(b"", 0)
            yield line
        self.rest = self._longer(rest)

    def _longer(self, part: bytes) -> Line:
        data, size = self.rest.data + part, self.rest.size + len(part)
        return Line(data if size <= MAX_RECORD else data[-KNOWN:], size)


class Pipe:
    """Standard input, read without waiting for long.

    Attributes:
        ended: whether nothing more will come.

    Raises:
        InputError: it is closed.
    """

    def __init__(self) -> None:
        if sys.stdin is None:
            raise InputError("-: standard input is closed")
        self.handle, self.ended = sys.stdin.fileno(), False

    def read(self) -> bytes:
        """What is there."""
        if not select.select([self.handle], [], [], WAIT)[0]:
            return b""
        block = os.read(self.handle, BLOCK)
        self.ended = not block
        return block

    def change(self) -> str:
        """Never one."""
        return ""


class GrowingFile:
    """A file that others append to, rotate or truncate.

    Attributes:
        ended: whether nothing more is waited for.

    Args:
        path: of the file.
        offset: where to begin, in bytes.
        known: the last bytes before that.
        follow: more is waited for at its end.
    """

    def __init__(self, path: Path, offset: int, known: bytes, *, follow: bool) -> None:
        self.path, self.offset, self.known = path, offset, known
        self.file = path.open("rb", buffering=0)
        self.ended, self.follow = False, follow

    def is_same(self) -> bool:
        """Whether the bytes before the offset are still those that were read."""
        self.file.seek(max(0, self.offset - len(self.known)))
        return self.file.read(len(self.known)) == self.known

    def read(self) -> bytes:
        """What is new; nothing where the file is not the same any more."""
        self.file.seek(self.offset)
        block = self.file.read(BLOCK)
        if not self.is_same():  # looked at afterwards: what was read before a change is whole
            return b""
        self.offset += len(block)
        self.known = (self.known + block)[-KNOWN:]
        self.ended = not block and not self.follow
        return block

    def change(self) -> str:
        """What became of the file that is open, where its bytes or its name are another's now."""
        if not self.is_same():
            return "was truncated"
        try:
            named, ours = self.path.stat(), os.fstat(self.file.fileno())
        except FileNotFoundError:  # between a rotation's two steps
            return ""
        same = (named.st_dev, named.st_ino) == (ours.st_dev, ours.st_ino)
        return "" if same else "was rotated"
