"""CSV files: what stands between the cells, the names of the columns, and the rows below them.

Names and rows are parsed by the same `csv.reader`. A record may take several lines, where a quoted
cell holds line breaks; a blank line is none.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from nervecode.errors import InputError
from nervecode.files import suffix_of
from nervecode.lab.data.by_path.bad_rows import BadRows
from nervecode.lab.data.by_path.cells import without_missing_words
from nervecode.lab.data.by_path.columns import check_columns
from nervecode.lab.data.by_path.text_files import TextError, text_lines

if TYPE_CHECKING:
    from pandas import DataFrame

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
DECLARED = re.compile(r"sep=([,;\t|])", re.IGNORECASE)  # as Excel writes it
COMMENT = re.compile(r"#(#|[^,;\t|]* [^,;\t|\s])")  # `# exported by`; `#` and `#id` are names
SAMPLE = 100  # records that tell the separator
MAX_CELLS = 1 << 22  # of a block: texts of a quarter of a gigabyte


@dataclass(frozen=True)
class CsvLayout:
    """What stands between the cells, and the names of the columns; a column may have none."""

    separator: str
    names: tuple[str, ...]


def csv_layout(path: Path) -> CsvLayout:
    """The layout of a file, by its first records.

    Raises:
        InputError: no text; separators of which several may be meant; or a first line that is a
            comment, holds numbers, or a name twice.
    """
    separator = _separator(path)
    names = tuple(name.strip() for name in next(_records(path, separator), ()))
    if not any(names):
        raise InputError(f"{path}: is empty, allowed: the names of the columns, and rows below")
    twice = next((f"{name!r} twice" for name in names if name and names.count(name) > 1), None)
    if twice or _are_cells(names):
        raise InputError(
            f"{path}: its first line holds {twice or 'numbers'}, allowed: the names of the "
            "columns; a file without them needs a line of them above the others"
        )
    return CsvLayout(separator, names)


def csv_blocks(path: Path, names: Sequence[str], rows: int, bad: BadRows) -> Iterator[DataFrame]:
    """Some columns of a file as texts, `rows` rows at a time, or fewer where these are wide.

    `bad` is told of a row with more cells or fewer than there are names; its cells are empty.

    Raises:
        InputError: as `csv_layout`, or an absent column.
    """
    import pandas as pd

    layout = csv_layout(path)
    check_columns(path, [name for name in layout.names if name], names)
    records = _rows(path, layout, bad)
    count = max(1, min(rows, MAX_CELLS // len(layout.names)))
    while block := list(islice(records, count)):
        table = pd.DataFrame(block, columns=list(layout.names), dtype=object)
        yield table[list(names)].apply(without_missing_words)


def _separator(path: Path) -> str:
    """What stands between the cells, by the first line, the suffix, or the first records."""
    first = _first_line(path)
    if declared := DECLARED.fullmatch(first):
        return declared[1]
    if COMMENT.match(first):
        raise InputError(
            f"{path}: its first line is a comment, {first[:40]!r}, allowed: the names of the "
            "columns; one that begins with # stands in quotes"
        )
    if suffix_of(path) == ".tsv":
        return "\t"
    return _fitting(path, {separator: _widths(path, separator) for separator in SEPARATORS})


def _fitting(path: Path, widths: dict[str, list[int]]) -> str:
    """The separator under which the first records have as many cells as there are names."""
    fitting = [separator for separator, w in widths.items() if w[0] > 1 and len(set(w)) == 1]
    if len(fitting) > 1:
        ways = " or ".join(f"{widths[s][0]} columns by {SEPARATORS[s]}" for s in fitting)
        raise InputError(
            f"{path}: is a table of {ways}, allowed: one of them; a line sep={fitting[0]} or "
            f"sep={fitting[1]} above the names says which"
        )
    # None fits where some rows are ragged, which the reader tells, or where there is one column.
    parting = fitting or [separator for separator, w in widths.items() if set(w) != {1}]
    return max(parting, key=lambda s: _agreement(widths[s]), default=",")


def _agreement(widths: Sequence[int]) -> tuple[bool, int]:
    """How much speaks for a separator where some rows are ragged; the greatest is told."""
    # It parts the names, and many rows have as many cells as these.
    return widths[0] > 1, widths.count(widths[0])


def _first_line(path: Path) -> str:
    """The first that is not blank."""
    with closing(text_lines(path)) as lines:
        try:
            return next((line for line in lines if line.strip()), "").strip("\r\n")
        except TextError as error:
            raise InputError(f"{path}: its first line: {error}") from None


def _widths(path: Path, separator: str) -> list[int]:
    """Cells in each of the first records; 0 for one that cannot be read."""
    widths = []
    try:
        for record in islice(_records(path, separator), SAMPLE + 1):
            widths.append(len(record))
    except InputError:
        widths.append(0)
    return widths or [0]


def _rows(path: Path, layout: CsvLayout, bad: BadRows) -> Iterator[list[str]]:
    """The records below the names, each with as many cells as there are names."""
    unnamed = [place for place, name in enumerate(layout.names) if not name]
    width = len(layout.names)
    for row, record in enumerate(islice(_records(path, layout.separator), 1, None)):
        if len(record) != width:
            above = "" if row else "; no other line may stand above the names"
            bad.add(
                row,
                f"{path}: row {row}: found {len(record)} cells between "
                f"{SEPARATORS[layout.separator]}, allowed: {width}, as there are names{above}",
            )
            record = [""] * width
        for place in unnamed:
            if not record[place]:
                continue
            reason = (
                f"{path}: row {row}: found {record[place]!r} in column {place}, which has no name, "
                "allowed: nothing; pandas' to_csv(index=False) writes no such column"
            )
            if not row:  # the column is one, and not the row is bad
                raise InputError(reason)
            bad.add(row, reason)
        yield record


def _records(path: Path, separator: str) -> Iterator[list[str]]:
    """The names of the columns, then the rows; without blank lines and the line `sep=`."""
    row, width = -1, 0
    with closing(text_lines(path)) as lines:
        records = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
        try:
            for record in records:
                declares = row < 0 and "".join(record).lower() == "sep="
                # A cell that is empty but for quotes is the missing one of a single column.
                if not record or declares or (record == [""] and width != 1):
                    continue
                width = width or len(record)
                yield record
                row += 1
        except (csv.Error, TextError) as error:
            place = f"row {row}" if row >= 0 else "its first line"
            raise InputError(f"{path}: {place}: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    """What is wrong with a record, where `csv` has few words for it."""
    text = str(error)
    if "expected after" in text:
        return "found more behind a closing quote, allowed: a separator; a quote in quotes is twice"
    if "end of data" in text:
        return "opens quotes that are never closed"
    if "field limit" in text:
        return (
            f"found a cell of more than {csv.field_size_limit():,} letters, or quotes never closed"
        )
    return text


def _are_cells(names: Sequence[str]) -> bool:
    """Whether the first line of a table is one of numbers: all, or most and some with a point."""
    import pandas as pd

    numbers = [name for name in names if pd.notna(pd.to_numeric(name, errors="coerce"))]
    broken = any("." in number for number in numbers)
    return len(numbers) == len(names) or (broken and 2 * len(numbers) > len(names))
