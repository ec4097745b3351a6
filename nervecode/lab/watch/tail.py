"""Tail: the records of a scored file that may still grow, or of a pipe, each given once."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from nervecode.errors import InputError, did_you_mean
from nervecode.files import absent, suffix_of
from nervecode.lab.watch.blocks import KNOWN, MAX_RECORD, GrowingFile, Line, Lines, Pipe

SUFFIXES = (".csv", ".jsonl")
PIPE = "-"
MAX_LINES = 100  # of one record, whose quoted fields may hold ends of lines
BOM = b"\xef\xbb\xbf"  # of spreadsheets
UTF_16 = (b"\xff\xfe", b"\xfe\xff")  # how it begins


@dataclass(frozen=True)
class Place:
    """How far a file was read.

    Attributes:
        offset: bytes.
        line: lines.
        known: the last bytes before it, hexadecimal.
        columns: the header of a CSV file.
    """

    offset: int = 0
    line: int = 0
    known: str = ""
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Record:
    """One whole record, from a line on.

    Attributes:
        line: its first, from 1.
        data: its bytes.
        fields: those of a CSV record.
        fault: why it cannot be read; else empty.
    """

    line: int
    data: bytes
    fields: tuple[str, ...] = ()
    fault: str = ""


class Tail:
    """The records of a `.csv` or `.jsonl` file or of standard input, in order.

    A record is given when its end is there, so that half-written ones wait. A file that was
    rotated (another file has its name) or truncated is read from its beginning.

    Args:
        source: the file, or `-` for standard input.
        follow: wait for more at the end of the file.
        place: where to go on, if the bytes before it are still those.
        finished: take a last record without an end of line, where nothing will follow.
        notice: told of a rotation, a truncation, or records that are not taken.

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
        self.is_csv: bool | None = None if self.path is None else suffix_of(self.path) == ".csv"
        self._lines, self._held = Lines(), list[Line]()
        self._told = 0  # the last line that was said to be held
        if self.path is None:
            return
        if suffix_of(self.path) not in SUFFIXES:
            hint = did_you_mean(self.path.suffix, SUFFIXES)
            raise InputError(f"{source}: unknown suffix {self.path.suffix!r}; {hint}")
        if not self.path.is_file():
            raise InputError(absent(self.path))

    def records(self) -> Iterator[Record | None]:
        """The records; None where there is no new one for a moment.

        Raises:
            InputError: a header or a file that cannot be read.
        """
        if self.path is None:
            yield from self._whole(Pipe())
            return
        while True:
            known = bytes.fromhex(self.place.known)
            try:
                file = GrowingFile(self.path, self.place.offset, known, follow=self.follow)
            except FileNotFoundError:  # between a rotation's two steps
                yield None
                continue
            except OSError as error:
                raise InputError(f"{self.source}: cannot be read ({error.strerror})") from None
            with file.file:
                if file.is_same():
                    yield from self._whole(file)
                else:
                    self.notice(f"{self.source}: is another file now; read from its beginning")
            if file.ended:
                return
            self.place = Place()

    def parse(self, record: Record) -> dict[str, Any]:
        """Column -> value of a record; those of a CSV are texts.

        Raises:
            InputError: it cannot be read, is no JSON object, has a name twice, or not as many
                fields as the header.
        """
        where = self.where(record.line)
        if record.fault:
            raise InputError(f"{where}: {record.fault}")
        columns = self.place.columns
        if columns is not None:
            if len(record.fields) != len(columns):
                raise InputError(
                    f"{where}: found {len(record.fields)} fields, allowed: {len(columns)}"
                )
            return dict(zip(columns, record.fields, strict=True))
        try:
            values = json.loads(record.data, object_pairs_hook=partial(_once, where))
        except InputError:
            raise
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, dict):
            raise InputError(f"{where}: is no JSON object")
        return values

    def where(self, line: int) -> str:
        """What errors call a line."""
        return f"{self.source}, line {line}"

    def _whole(self, source: Pipe | GrowingFile) -> Iterator[Record | None]:
        """The records of a source, up to its end or to where it is another's."""
        self._lines, self._held, self._told = Lines(), [], 0
        change = ""
        while True:
            block = source.read()
            for line in self._lines.of(block):
                self._hold(line)
                yield from self._ended(last=False)
            if block:
                continue
            if source.ended or change:
                yield from self._end(change)
                return
            change = source.change()
            if change:  # once more: what was written before that
                self.notice(f"{self.source}: {change}; read from its beginning")
                continue
            self._say_held()
            yield None

    def _end(self, change: str) -> Iterator[Record]:
        """What there is to take after the last end of line."""
        rest = self._lines.rest
        if rest.size and self.finished and not change:
            self._hold(rest)
        elif rest.data.strip():
            where = self.where(self.place.line + len(self._held) + 1)
            then = "it is left out" if change else "it is taken when it has one"
            self.notice(f"{where}: has no end of line, as if half-written; {then}")
        if self.finished or change:
            yield from self._ended(last=True)
        self._say_held()

    def _hold(self, line: Line) -> None:
        """Hold a line until its record has ended; the first one says what it is of."""
        if not self.place.offset and not self._held:
            if line.data.startswith(UTF_16):
                raise InputError(f"{self.source}: found UTF-16, allowed: UTF-8")
            line = line._replace(data=line.data.removeprefix(BOM))
        if self.is_csv is None and line.data.strip():
            self.is_csv = not line.data.lstrip().startswith(b"{")
        self._held.append(line)

    def _ended(self, *, last: bool) -> Iterator[Record]:
        """The records that end in the lines held; `last` where no line will follow."""
        while self._held:
            count, fields, fault = self._first(last=last)
            if not count:
                return
            lines, self._held = self._held[:count], self._held[count:]
            data, line = b"".join(line.data for line in lines), self.place.line + 1
            self._advance(data, sum(line.size for line in lines), count)
            if not fault and not data.strip():
                continue
            if self.is_csv and self.place.columns is None:
                self._head(line, fields, fault)
                continue
            self.given += 1
            yield Record(line, data, fields, fault)

    def _first(self, *, last: bool) -> tuple[int, tuple[str, ...], str]:
        """Of the first record held: how many lines, 0 if it goes on; CSV fields; its fault."""
        if sum(line.size for line in self._held) > MAX_RECORD:
            return 1, (), f"longer than {MAX_RECORD:,} bytes"
        if not self.is_csv:
            return 1, (), ""
        texts = [line.data.decode("utf-8", "surrogateescape") for line in self._held]
        # Strict: else a quote that is missing joins the lines up to the next quoted field.
        reader = csv.reader([*texts, ""], strict=True)  # takes "" if a quoted field goes on
        try:
            fields = tuple(next(reader))
            return reader.line_num, fields, ""
        except csv.Error as error:
            if reader.line_num <= len(texts):
                return 1, (), _words(error, self.place.line + reader.line_num)
        if last or len(texts) >= MAX_LINES:
            return 1, (), f"a quoted field that begins here does not end within {len(texts)} lines"
        return 0, (), ""

    def _advance(self, data: bytes, size: int, lines: int) -> None:
        place = self.place
        known = (bytes.fromhex(place.known) + data)[-KNOWN:].hex()
        self.place = Place(place.offset + size, place.line + lines, known, place.columns)

    def _head(self, line: int, columns: tuple[str, ...], fault: str) -> None:
        if fault:
            raise InputError(f"{self.where(line)}: {fault}")
        if len(columns) == 1 and (other := re.search(r"[;\t]", columns[0])):
            raise InputError(
                f"{self.where(line)}: found columns between {other[0]!r}, allowed: "
                "between ',', and numbers such as 0.5"
            )
        _once(self.where(line), [(name, None) for name in columns if name])
        place = self.place
        self.place = Place(place.offset, place.line, place.known, columns)

    def _say_held(self) -> None:
        """Say, once, that lines wait for the end of a quoted field."""
        line = self.place.line + 1
        if self._held and self._told != line:
            self._told = line
            self.notice(
                f"{self.where(line)}: a quoted field that begins here has no end yet; "
                f"held until it has, {MAX_LINES} lines at most"
            )


def _words(error: csv.Error, line: int) -> str:
    if "new-line" in str(error):
        return r"found a carriage return within a line, allowed: lines that end in \n or \r\n"
    if "expected after" in str(error):
        return (
            "a quoted field that begins here ends with a quote within a word, "
            f"in line {line}: a quote is missing, or is not doubled"
        )
    return str(error)


def _once(where: str, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Name -> value, where no name comes twice."""
    values = dict(pairs)
    if len(values) < len(pairs):
        name, count = Counter(name for name, _ in pairs).most_common(1)[0]
        raise InputError(f"{where}: found {name!r} {count} times, allowed: once")
    return values
