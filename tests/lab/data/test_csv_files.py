"""CSV files as they are: separators, quotes, names, rows; what may be meant twice is asked."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nervecode.errors import InputError
from nervecode.lab.data.by_path import csv_files
from nervecode.lab.data.by_path.bad_rows import BadRows
from nervecode.lab.data.by_path.table_files import blocks, column_names


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.csv"


def read(path: Path) -> tuple[list[str], list[list[str | None]]]:
    """The names of the columns, and the rows with None where a cell is missing."""
    names = column_names(path)
    table = pd.concat(blocks(path, names))
    cells = table.astype(object).where(table.notna(), None)
    return names, cells.to_numpy().tolist()


def test_a_column_without_a_name_is_no_bad_row(path: Path) -> None:
    path.write_text(",a,b\n0,1,2\n1,3,4\n")
    with pytest.raises(InputError, match="which has no name") as caught:
        list(blocks(path, ["a"], BadRows(left_out=True, hint=" HINT")))
    assert "HINT" not in str(caught.value)
    path.write_text("a,b,\n1,2,\n3,4,5\n")
    bad = BadRows(left_out=True)
    list(blocks(path, ["a"], bad))
    assert list(bad.reasons) == [1]


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        # Separators within quotes are none.
        ('"a;b;c;d",x\n"1;2",3\n', ["a;b;c;d", "x"], [["1;2", "3"]]),
        ('"a,b,c"|x|"y,z"\n1|2|3\n', ["a,b,c", "x", "y,z"], [["1", "2", "3"]]),
        ('a;b\n"1,5";"2,5"\n', ["a", "b"], [["1,5", "2,5"]]),
        ("a;b\n1,5;2,5\n", ["a", "b"], [["1,5", "2,5"]]),
        ("a,b\nx|y,1\nz,2\n", ["a", "b"], [["x|y", "1"], ["z", "2"]]),
        ("a;b,c\n1,2\n3;4,5\n", ["a;b", "c"], [["1", "2"], ["3;4", "5"]]),
        # Nor are line breaks; a quote within quotes is twice.
        ('"a\nb",c\n1,"2\n\n3"\n4,5\n', ["a\nb", "c"], [["1", "2\n\n3"], ["4", "5"]]),
        ('"a ""b""",c\n"say ""hi""",5" pipe\n', ['a "b"', "c"], [['say "hi"', '5" pipe']]),
        # One column.
        ("a\n1\n2\n", ["a"], [["1"], ["2"]]),
        ('a\n1\n""\n\n2\n', ["a"], [["1"], [None], ["2"]]),
        ('a\n"x;y"\n', ["a"], [["x;y"]]),
        ("sep=,\na\nx;y\n", ["a"], [["x;y"]]),
        # The line that Excel writes, also where more than one separator would do.
        ("sep=;\na;b\n1;2\n", ["a", "b"], [["1", "2"]]),
        ("SEP=|\r\na;b|c;d\r\n1;2|3;4\r\n", ["a;b", "c;d"], [["1;2", "3;4"]]),
        ("sep=\t\na,b\tc,d\n1,2\t3,4\n", ["a,b", "c,d"], [["1,2", "3,4"]]),
        # Blanks, blank lines, line ends, the byte-order mark.
        ("\n  \n a , b\n\n1, 2\n\n\n3,4\n\n", ["a", "b"], [["1", "2"], ["3", "4"]]),
        ("\ufeffa,b\r\n1,2\r\n", ["a", "b"], [["1", "2"]]),
        ('\ufeff"a;b",c\r1,2\r3,4', ["a;b", "c"], [["1", "2"], ["3", "4"]]),
        # Missing cells; a row of them is a row.
        ('a,b\n,NA\n"",?\nnull,1\n', ["a", "b"], [[None, None], [None, None], [None, "1"]]),
        # Separators behind the last cell, on every line.
        ("a,b,\n1,2,\n3,,\n", ["a", "b"], [["1", "2"], ["3", None]]),
        ("a,,\n1,,\n", ["a"], [["1"]]),
        # Names with a #.
        ("#,name\n1,x\n", ["#", "name"], [["1", "x"]]),
        ("#chrom\tpos\n1\t2\n", ["#chrom", "pos"], [["1", "2"]]),
        ('"# of rooms",x\n1,2\n', ["# of rooms", "x"], [["1", "2"]]),
    ],
)  # fmt: skip
def test_a_file_is_read_as_it_is(
    path: Path, text: str, names: list[str], rows: list[list[str | None]]
) -> None:
    path.write_text(text, newline="", encoding="utf-8")
    assert read(path) == (names, rows)


def test_a_tsv_has_tabs(tmp_path: Path) -> None:
    path = tmp_path / "my.tsv"
    path.write_text("a,b\tc\n1,2\t3\n")
    assert read(path) == (["a,b", "c"], [["1,2", "3"]])
    path.write_text("# by Ann\ton Monday\na\tb\n")
    with pytest.raises(InputError, match="its first line is a comment"):
        read(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # Ragged rows, wherever they stand.
        ("a,b\n1,2\n3\n", "row 1: found 1 cells between commas, allowed: 2, as there are names"),
        ("a,b\n1,2\n3,4,\n", "row 1: found 3 cells between commas, allowed: 2, as there are names"),
        ("a,b\n1,2,\n3,4,\n", "row 0: found 3 cells between commas, allowed: 2"),
        ("a,b,c\nr1,1,2,3\nr2,4,5,6\n", "row 0: found 4 cells between commas, allowed: 3"),
        ('a,b\n\n"1\n\n\n2",3\n\n4\n', "row 1: found 1 cells between commas, allowed: 2"),
        ("a,b\n" + "1,2\n" * 500 + "1\n", "row 500: found 1 cells between commas, allowed: 2"),
        ("a;b,c\n1;2\n3;4\n5\n", "row 2: found 1 cells between semicolons, allowed: 2"),
        ("a,b\n1,2\n3\n4|,5\n6\n", "row 1: found 1 cells between commas, allowed: 2"),
        ("a\n1\nx,y\nx;y;\nz;\n", "row 1: found 2 cells between commas, allowed: 1"),
        ("a\nx;y\n", "row 0: found 2 cells between semicolons, allowed: 1"),
        # A line above the names.
        ("# exported by Ann\na;b\n1;2\n",
         "its first line is a comment, '# exported by Ann', allowed: the names of the columns; one "
         "that begins with # stands in quotes"),
        ("# exported by Ann, 2024\na,b\n1,2\n", "its first line is a comment, '# exported by Ann"),
        ("# a,b\n1,2\n", "its first line is a comment, '# a,b'"),
        ("## VCF\n#a\tb\n1\t2\n", "its first line is a comment, '## VCF'"),
        ("Report of May\na;b\n1;2\n",
         "row 0: found 2 cells between semicolons, allowed: 1, as there are names; no other line "
         "may stand above the names"),
        ("Report of May, 2024\na,b,c\n1,2,3\n", "row 0: found 3 cells between commas, allowed: 2"),
        # What may be meant twice.
        ("a,b;c\n1,2;3\n",
         "is a table of 2 columns by commas or 2 columns by semicolons, allowed: one of them; a "
         "line sep=, or sep=; above the names says which"),
        ("a|b;c;d\n", "is a table of 3 columns by semicolons or 2 columns by bars"),
        # Quotes.
        ('a,b\n1,2\n3,"4"5\n',
         "row 1: found more behind a closing quote, allowed: a separator; a quote in quotes is "
         "twice"),
        ('a,b\n1,2\n3,"4\n5,6\n', "row 1: opens quotes that are never closed"),
        ('a,"b"c\n1,2\n', "its first line: found more behind a closing quote"),
        ('a,b\n1,"2' + "\n" * 140_000,
         "row 0: found a cell of more than 131,072 letters, or quotes never closed"),
        # Names.
        ("", "is empty, allowed: the names of the columns, and rows below"),
        ("\n \n", "is empty, allowed: the names of the columns, and rows below"),
        ("a,b,a\n1,2,3\n", "its first line holds 'a' twice, allowed: the names of the columns"),
        ("\n1,2\n3,4\n", "its first line holds numbers, allowed: the names of the columns"),
        (",a,b\n0,1,2\n",
         "row 0: found '0' in column 0, which has no name, allowed: nothing; pandas' "
         "to_csv(index=False) writes no such column"),
        ("a,b,\n1,2,\n3,4,5\n", "row 1: found '5' in column 2, which has no name"),
        # Bytes.
        ("a,b\n1,2\n3,4\0\n", "row 1: found a NUL byte, allowed: text in UTF-8"),
        ("a\0,b\n1,2\n", "its first line: found a NUL byte, allowed: text in UTF-8"),
        ('a,b\n\n"1\n\n\n2",3\n\n4,\udce9\n',
         "row 1: found byte 0xe9, allowed: UTF-8, as `iconv -f LATIN1 -t UTF-8` makes it of older "
         "files"),
        ('"a\n\udce9",b\n1,2\n', "its first line: found byte 0xe9, allowed: UTF-8"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_told_with_its_row(path: Path, text: str, words: str) -> None:
    path.write_text(text, newline="", encoding="utf-8", errors="surrogateescape")
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: {words}")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_utf16_is_told(path: Path, encoding: str) -> None:
    path.write_text("a\tb\n1\t2\n", encoding=encoding)
    kind = "UTF-16" if encoding == "utf-16" else "a NUL byte"
    with pytest.raises(InputError, match=f"my.csv: its first line: found {kind}, allowed: "):
        read(path)


def test_wide_tables_are_read_in_smaller_blocks(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.write_text("a,b\n" + "1,2\n" * 10)
    monkeypatch.setattr(csv_files, "MAX_CELLS", 6)
    assert [len(block) for block in blocks(path, ["b"])] == [3, 3, 3, 1]
    monkeypatch.setattr(csv_files, "MAX_CELLS", 1)
    assert [len(block) for block in blocks(path, ["b"])] == [1] * 10
