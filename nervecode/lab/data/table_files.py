"""Tables in files, CSV and Parquet, read a block of rows at a time.

Rows are counted from 0, as in the ids of scores. A cell is missing where it is empty, or one of
`MISSING_WORDS`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nervecode.errors import InputError, did_you_mean, need_extra
from nervecode.lab.data.columns import spelling

if TYPE_CHECKING:
    from pandas import DataFrame, Series

SUFFIXES = (".csv", ".tsv", ".parquet")
MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")
DECIMAL_COMMA = r"[-+]?\d+,\d+"
INTEGER = r"[-+]?\d+"
MAX_EXACT = 1 << 53  # float64 holds all integers up to here, and some beyond
BLOCK = 1 << 16  # rows
MAX_BYTES = 4 << 30  # of a set by path in memory: half a billion numbers of a table


@dataclass
class ColumnKind:
    """What the cells of a column are.

    Attributes:
        numbers: how many of them are numbers.
        texts: how many are something else.
        commas: how many of these are numbers with a decimal comma.
        text: the first that is no number, as (row, text).
    """

    numbers: int = 0
    texts: int = 0
    commas: int = 0
    text: tuple[int, str] | None = None


@dataclass
class Contents:
    """What a table holds, by one pass over it: how many rows, and the kind of each column."""

    rows: int = 0
    kinds: dict[str, ColumnKind] = field(default_factory=dict)


def survey(path: Path, names: Sequence[str]) -> Contents:
    """Count rows, and see of some columns whether they hold numbers or texts.

    Raises:
        InputError: a file that cannot be read as a table.
    """
    contents = Contents()
    for block in blocks(path, names):
        for name in names:
            kind = contents.kinds.setdefault(name, ColumnKind())
            values = as_numbers(block[name])
            kind.numbers += int(values.notna().sum())
            wrong = (values.isna() & block[name].notna()).to_numpy()
            if wrong.any():
                texts = block[name][wrong].astype(str)
                kind.texts += len(texts)
                kind.commas += int(texts.str.fullmatch(DECIMAL_COMMA).sum())
                kind.text = kind.text or (contents.rows + int(wrong.argmax()), texts.iloc[0])
        contents.rows += len(block)
    if not contents.rows:
        raise InputError(f"{path}: holds no row below the names of its columns")
    return contents


def read_table(
    paths: Sequence[Path], names: Sequence[str], numbers: Sequence[str]
) -> tuple[DataFrame, tuple[int, ...]]:
    """Some columns of tables, whole and one below the other, and how many rows each table has.

    Numbers are float64 with NaN where one is missing; all else are categories.

    Raises:
        InputError: a column that is absent, something else where a number should be, or an
            integer that float64 cannot hold.
    """
    import pandas as pd
    from pandas.api.types import union_categoricals

    files = [list(typed_blocks(path, names, numbers)) for path in paths]
    parts = [part for file in files for part in file]
    columns: dict[str, Any] = {}
    for name in names:
        pieces = [part[name] for part in parts]
        whole = name in numbers
        columns[name] = np.concatenate(pieces) if whole else union_categoricals(pieces)
    return pd.DataFrame(columns), tuple(sum(map(len, file)) for file in files)


def typed_blocks(path: Path, names: Sequence[str], numbers: Sequence[str]) -> Iterator[DataFrame]:
    """The same, a block at a time.

    Raises:
        InputError: as `read_table`.
    """
    start = 0
    for block in blocks(path, names):
        yield block.assign(
            **{
                name: _checked(block[name], path, start)
                if name in numbers
                else _categories(block[name])
                for name in names
            }
        )
        start += len(block)


def column_names(path: Path) -> list[str]:
    """The names of a table's columns, an index of pandas aside; nothing else of it is read.

    Raises:
        MissingExtraError: pandas is not installed, or pyarrow for Parquet.
        InputError: a file that is absent or cannot be read.
    """
    _check_kind(path)
    with _readable(path):
        if path.suffix != ".parquet":
            return _header(path)[1]
        from pyarrow import parquet

        schema = parquet.read_schema(path)
        index = (schema.pandas_metadata or {}).get("index_columns", [])
        return [name for name in schema.names if name not in index]


def blocks(path: Path, names: Sequence[str]) -> Iterator[DataFrame]:
    """Rows of a table as texts (or as what a Parquet file has), some columns of it.

    Raises:
        MissingExtraError: pandas is not installed, or pyarrow for Parquet.
        InputError: a file that is absent or cannot be read, or lacks a column.
    """
    _check_kind(path)
    with _readable(path):
        yield from (_parquet_blocks if path.suffix == ".parquet" else _csv_blocks)(path, names)


def check_columns(
    path: Path, present: Sequence[str], wanted: Sequence[str], *, key: str = ""
) -> None:
    """Refuse a table that lacks a column; the nearest name is shown.

    Raises:
        InputError: it lacks one; the message begins with `key`, where that named it.
    """
    for name in wanted:
        if name not in present:
            where = f"{key}: " if key else ""
            raise InputError(f"{where}{path} has no column {name!r}; {did_you_mean(name, present)}")


def _check_kind(path: Path) -> None:
    need_extra(f"{path.name}:", "pandas", "tables")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: found {path.suffix!r}, allowed: {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        need_extra(f"{path.name}:", "pyarrow", "tables")


def as_numbers(column: Series) -> Series:
    """float64; NaN for what is missing or no finite number."""
    import pandas as pd

    if column.dtype.kind == "b":
        return pd.Series(np.nan, column.index)
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    return values.where(np.isfinite(values))


def _checked(column: Series, path: Path, start: int) -> Series:
    values = as_numbers(column)
    wrong = (values.isna() & column.notna()).to_numpy()
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"{path}: row {start + row}, column {column.name!r}: found "
            f"{str(column.iloc[row])!r}, allowed: a number, or nothing"
        )
    _check_exact(column, values, path, start)
    return values


def _check_exact(column: Series, values: Series, path: Path, start: int) -> None:
    """Refuse an integer that became another as float64; few columns have one so large."""
    large = np.flatnonzero(values.abs().to_numpy() >= MAX_EXACT)
    if not len(large) or column.dtype.kind == "f":
        return
    texts = column.iloc[large].astype(str).str.strip()
    integers = texts.str.fullmatch(INTEGER).to_numpy(bool)
    large, texts = large[integers], texts[integers]
    # A Decimal and a float are compared exactly.
    wrong = texts.map(Decimal).to_numpy(object) != values.to_numpy()[large].astype(object)
    if wrong.any():
        place = int(wrong.argmax())
        raise InputError(
            f"{path}: row {start + large[place]}, column {column.name!r}: found "
            f"{texts.iloc[place]}, allowed: integers that float64 holds exactly, as all up to "
            f"{MAX_EXACT:,}; data.categories=[{column.name}] takes the column as categories, "
            f"data.drop=[{column.name}] leaves it out"
        )


def _categories(column: Series) -> Series:
    """Texts, spelled alike whatever type has them, in whichever block."""
    import pandas as pd

    codes, distinct = pd.factorize(column)
    texts = [spelling(value) for value in np.asarray(distinct)]
    names = sorted({text for text in texts if text not in MISSING_WORDS})
    place = {name: number for number, name in enumerate(names)}
    # A missing value has code -1, which takes the last.
    places = np.array([*(place.get(text, -1) for text in texts), -1])[codes]
    categories = pd.Index(names, dtype=object)
    return pd.Series(pd.Categorical.from_codes(places, categories), column.index)


def _csv_blocks(path: Path, names: Sequence[str]) -> Iterator[DataFrame]:
    import pandas as pd

    separator, present = _header(path)
    check_columns(path, present, names)
    # All columns are parsed: told which to use, pandas cuts off what a row has too much.
    reader = pd.read_csv(
        path,
        sep=separator,
        dtype=str,
        keep_default_na=False,
        na_values=list(MISSING_WORDS),
        index_col=False,
        chunksize=BLOCK,
        encoding="utf-8-sig",
        skipinitialspace=True,
    )
    with reader:
        for block in reader:
            yield block.rename(columns=str.strip)[list(names)]


def _header(path: Path) -> tuple[str, list[str]]:
    """The separator of a CSV file, and the names of its columns.

    Raises:
        InputError: a first line of numbers, or with something twice, or no line.
    """
    with path.open(encoding="utf-8-sig") as file:
        line = file.readline()
    if not line.strip():
        raise InputError(f"{path}: its first line is empty, allowed: the names of the columns")
    separator = max(",;\t|", key=line.count)
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator))]
    twice = next((f"{name!r} twice" for name in names if names.count(name) > 1), None)
    if twice or _are_cells(names):
        raise InputError(
            f"{path}: its first line holds {twice or 'numbers'}, allowed: the names of the "
            "columns; a file without them needs a line of them above the others"
        )
    return separator, names


def _are_cells(names: Sequence[str]) -> bool:
    """Whether the first line of a table is one of numbers: all, or most and some with a point."""
    import pandas as pd

    numbers = [name for name in names if pd.notna(pd.to_numeric(name, errors="coerce"))]
    broken = any("." in number for number in numbers)
    return len(numbers) == len(names) or (broken and 2 * len(numbers) > len(names))


def _parquet_blocks(path: Path, names: Sequence[str]) -> Iterator[DataFrame]:
    from pyarrow import parquet, types

    with parquet.ParquetFile(path) as file:
        schema = file.schema_arrow
        check_columns(path, schema.names, names)
        kinds: tuple[Callable[[Any], bool], ...] = (
            types.is_integer, types.is_floating, types.is_boolean, types.is_string,
            types.is_large_string, types.is_dictionary, types.is_decimal, types.is_null,
        )  # fmt: skip
        for name in names:
            found = schema.field(name).type
            if not any(kind(found) for kind in kinds):
                raise InputError(
                    f"{path}: column {name!r} holds {found}, allowed: numbers, texts, true and "
                    f"false; data.drop=[{name}] leaves out what is no target"
                )
        for batch in file.iter_batches(batch_size=BLOCK, columns=names):
            yield batch.to_pandas(types_mapper=_nullable).apply(_without_missing_words)


def _nullable(kind: Any) -> Any:
    """The type of integers, or of true and false, that pandas keeps where one is missing."""
    import pandas as pd
    from pyarrow import types

    if types.is_boolean(kind):
        return pd.BooleanDtype()
    if types.is_integer(kind):
        return pd.api.types.pandas_dtype(str(kind).replace("uint", "UInt").replace("int", "Int"))
    return None


def _without_missing_words(column: Series) -> Series:
    """Texts of a Parquet file, missing where those of a CSV file are."""
    if column.dtype.kind in "biuf":
        return column
    column = column.astype(object)
    return column.where(~column.isin(MISSING_WORDS))


def _not_utf8(path: Path) -> str:
    """Where a file stops being UTF-8, and what helps."""
    help = "allowed: UTF-8, as `iconv -f LATIN1 -t UTF-8` makes it of older files"
    with path.open("rb") as file:
        for row, line in enumerate(file, start=-1):
            try:
                line.decode()
            except UnicodeDecodeError as error:
                place = "its first line" if row < 0 else f"row {row}"
                return f"{place}: found byte 0x{line[error.start]:02x}, {help}"
    return f"not UTF-8; {help}"


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of the readers into one sentence."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: {_not_utf8(path)}") from None
    except Exception as error:  # pandas and pyarrow each raise errors of their own
        reason = " ".join(str(error).split())
        if ragged := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", reason):
            wanted, line, count = map(int, ragged.groups())
            raise InputError(
                f"{path}: row {line - 2}: found {count} cells, allowed: {wanted}, as its first "
                "line has names"
            ) from None
        raise InputError(f"{path}: not a readable table ({reason})") from None
