"""Tail: the records of a scored file that may still grow, or of a pipe, each given once."""

from __future__ import annotations

import csv
import json
import os
import select
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from nervecode.errors import InputError, did_you_mean
from nervecode.files import absent

SUFFIXES = (".csv", ".jsonl")
PIPE = "-"
MAX_RECORD = 1 << 20  # bytes
KNOWN = 64  # bytes before a place by which it is known again
WAIT = 0.2  # seconds


@dataclass(frozen=True)
class Place:
    """How far a file was read.

    Attributes:
        offset: bytes.
        line: records, the header among them.
        known: the last bytes before it, hexadecimal.
    """

    offset: int = 0
    line: int = 0
    known: str = ""


@dataclass(frozen=True)
class Record:
    """One whole record, not yet looked into."""

    data: bytes
    line: int


class _Lines(Protocol):
    def readline(self) -> bytes: ...


class Tail:
    """The records of a `.csv` or `.jsonl` file or of standard input, in order.

    A record is given when its end is there, so that half-written ones wait. A file that was
    rotated (another file has its name) or truncated is read from its beginning.

    Args:
        source: the file, or `-` for standard input.
        follow: wait for more at the end of the file.
        place: where to go on, if the bytes before it are still those.
        finished: take a last record without an end of line, where nothing will follow.
        notice: told of a rotation, a truncation, or a last record that is not taken.

    Attributes:
        given: how many records were given.

    Raises:
        InputError: no such file, or another suffix.
    """

    def __init__(
        self,
        source: str,
        *,
        follow: bool = False,
        place: Place | None = None,
        finished: bool = True,
        notice: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.source, self.follow, self.finished, self.notice = source, follow, finished, notice
        self.path = None if source == PIPE else Path(source)
        self.place, self.given = place or Place(), 0
        self.columns: list[str] | None = None
        self.is_csv: bool | None = None if self.path is None else self.path.suffix == ".csv"
        if self.path is None:
            return
        if self.path.suffix not in SUFFIXES:
            hint = did_you_mean(self.path.suffix, SUFFIXES)
            raise InputError(f"{source}: unknown suffix {self.path.suffix!r}; {hint}")
        if not self.path.is_file():
            raise InputError(absent(self.path))

    def records(self) -> Iterator[Record | None]:
        """The records; None where there is no new one for a moment."""
        if self.path is None:
            yield from self._whole(_Pipe(sys.stdin.fileno()))
            return
        while True:
            try:
                file = self.path.open("rb")
            except FileNotFoundError:  # between a rotation's two steps
                yield None
                continue
            with file:
                if self.place.offset and not self._seek(file):
                    self.notice(f"{self.source}: is another file now; read from its beginning")
                    self.place, self.columns = Place(), None
                    file.seek(0)
                yield from self._whole(file)
            if not self.follow:
                return
            self.place, self.columns = Place(), None

    def parse(self, record: Record) -> dict[str, Any]:
        """Column -> value of a record; those of a CSV are texts.

        Raises:
            InputError: it is no JSON object, has a name twice, or not as many fields as the header.
        """
        where = f"{self.source}, line {record.line}"
        if not self.is_csv:
            try:
                values = json.loads(record.data, object_pairs_hook=partial(_once, where))
            except InputError:
                raise
            except (ValueError, RecursionError):
                values = None
            if not isinstance(values, dict):
                raise InputError(f"{where}: is no JSON object")
            return values
        assert self.columns is not None
        fields = _fields(record.data)
        if len(fields) != len(self.columns):
            raise InputError(f"{where}: found {len(fields)} fields, allowed: {len(self.columns)}")
        return dict(zip(self.columns, fields, strict=True))

    def _seek(self, file: Any) -> bool:
        """Go to the place, the header being read again; False where it is not this file's."""
        known = bytes.fromhex(self.place.known)
        if self.is_csv:
            self.columns = _fields(file.readline())
        file.seek(max(0, self.place.offset - len(known)))
        return bool(file.read(len(known)) == known)

    def _whole(self, lines: _Lines) -> Iterator[Record | None]:
        data, leaving = b"", False
        while True:
            line = lines.readline()
            data += line
            if len(data) > MAX_RECORD:
                raise InputError(
                    f"{self.source}, line {self.place.line + 1}: longer than {MAX_RECORD:,} bytes"
                )
            if line.endswith(b"\n") and self._ends(data):
                yield from self._advance(data)
                data = b""
            elif not line.endswith(b"\n"):
                if self._is_over(lines):
                    if data and self.finished:
                        yield from self._advance(data)
                    elif data.strip():
                        self.notice(
                            f"{self.source}, line {self.place.line + 1}: has no end of line, as "
                            "if half-written; it is taken when it has one"
                        )
                    return
                if not line and leaving:
                    return
                leaving = not line and self._has_changed(lines)
                if not leaving:
                    yield None

    def _ends(self, data: bytes) -> bool:
        """Whether a record ends at this end of line; a CSV's may lie within quotes."""
        if self.is_csv is None:
            self.is_csv = not data.lstrip().startswith(b"{")
        return not self.is_csv or data.count(b'"') % 2 == 0

    def _advance(self, data: bytes) -> Iterator[Record]:
        known = (bytes.fromhex(self.place.known) + data)[-KNOWN:].hex()
        self.place = Place(self.place.offset + len(data), self.place.line + 1, known)
        if self.is_csv and self.columns is None:
            self.columns = _fields(data)
            named = [(name, None) for name in self.columns if name]
            _once(f"{self.source}, line {self.place.line}", named)
        elif data.strip():
            self.given += 1
            yield Record(data, self.place.line)

    def _is_over(self, lines: _Lines) -> bool:
        return lines.ended if isinstance(lines, _Pipe) else not self.follow

    def _has_changed(self, file: Any) -> bool:
        """Whether the file that is open has lost its name, or bytes that were read."""
        if isinstance(file, _Pipe):
            return False
        assert self.path is not None
        ours = os.fstat(file.fileno())
        if ours.st_size < file.tell():
            self.notice(f"{self.source}: was truncated; read from its beginning")
            return True
        try:
            named = self.path.stat()
        except FileNotFoundError:
            return False
        if (named.st_dev, named.st_ino) != (ours.st_dev, ours.st_ino):
            self.notice(f"{self.source}: was rotated; read from its beginning")
            return True
        return False


def _once(where: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Name -> value, where no name comes twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InputError(f"{where}: found {name!r} {count} times, allowed: once")
    return values


def _fields(data: bytes) -> list[str]:
    text = data.decode("utf-8", "surrogateescape").removeprefix("\ufeff")  # of spreadsheets
    return next(csv.reader([text]), [])


class _Pipe:
    """Lines of a pipe, without waiting for long: what is there of one comes back without its end.

    Attributes:
        ended: whether nothing more will come.
    """

    def __init__(self, handle: int) -> None:
        self.handle, self.held, self.ended = handle, b"", False

    def readline(self) -> bytes:
        """A line, the part of one that is there, or nothing."""
        while b"\n" not in self.held:
            if not select.select([self.handle], [], [], WAIT)[0]:
                break
            block = os.read(self.handle, 1 << 16)
            self.ended = not block
            self.held += block
            if self.ended or len(self.held) > MAX_RECORD:
                break
        line, end, rest = self.held.partition(b"\n")
        self.held = rest
        return line + end
