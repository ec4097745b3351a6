"""Any table that `csv.writer` writes is read as pandas reads it, told the separator."""

from __future__ import annotations

import csv
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from nervecode.errors import InputError
from nervecode.lab.data.by_path.cells import MISSING_WORDS
from nervecode.lab.data.by_path.table_files import blocks, column_names

SEPARATORS = ",;\t|"
# Letters that matter to a parser, among a few others; no blanks on either side.
TEXTS = st.text(alphabet='ab1é,;\t|"\n# ', max_size=8).map(str.strip)
CELLS = TEXTS | st.sampled_from(MISSING_WORDS) | st.floats(allow_nan=False).map(str)


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]]]:
    """Names of columns that are no numbers, and rows of cells below them."""
    width = draw(st.integers(1, 5))
    name = TEXTS.map(lambda text: f"n{text}".strip())
    names = draw(st.lists(name, min_size=width, max_size=width, unique=True))
    row = st.lists(CELLS, min_size=width, max_size=width)
    return names, draw(st.lists(row, min_size=1, max_size=12))


@given(tables(), st.sampled_from(SEPARATORS), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_a_table_is_read_as_it_was_written(table, separator: str, end: str, quoted: bool) -> None:
    names, rows = table
    quoting = csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL
    with TemporaryDirectory() as folder:
        path = Path(folder) / "my.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, delimiter=separator, lineterminator=end, quoting=quoting).writerows(
                [names, *rows]
            )
        expected = pd.read_csv(
            path, sep=separator, dtype=object, keep_default_na=False, na_values=list(MISSING_WORDS)
        )
        if len(names) > 1 and not is_certain(path):
            with pytest.raises(InputError, match="is a table of"):
                column_names(path)
        # Of one column, another separator may make several.
        if len(names) == 1 or not is_certain(path):
            path.write_bytes(f"sep={separator}{end}".encode() + path.read_bytes())
        assert column_names(path) == names
        pd.testing.assert_frame_equal(pd.concat(blocks(path, names)), expected)


def is_certain(path: Path) -> bool:
    """Whether one separator alone gives rows of several cells and of equal length."""
    widths = [_widths(path, separator) for separator in SEPARATORS]
    return sum(len(width) == 1 and width != {1} for width in widths) == 1


def _widths(path: Path, separator: str) -> set[int]:
    with path.open(newline="", encoding="utf-8") as file:
        try:
            reader = csv.reader(file, delimiter=separator, strict=True, skipinitialspace=True)
            return {len(record) for record in reader if record}
        except csv.Error:
            return set()


@given(tables(), st.sampled_from(SEPARATORS), st.data())
def test_no_ragged_row_is_read(table, separator: str, data: st.DataObject) -> None:
    names, rows = table
    place = data.draw(st.integers(0, len(rows) - 1))
    cells = data.draw(st.lists(st.just("x"), min_size=1, max_size=7))
    assume(len(cells) != len(names))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "my.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            file.write(f"sep={separator}\n")
            writer = csv.writer(file, delimiter=separator)
            writer.writerows([names, *rows[:place], cells, *rows[place + 1 :]])
        with pytest.raises(InputError, match=rf"row {place}: found {len(cells)} cells between"):
            list(blocks(path, names))
