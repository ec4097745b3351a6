"""Tables in files, CSV and Parquet, read a block of rows at a time; rows are counted from 0."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nervecode.errors import InputError, need_extra, one_line
from nervecode.files import absent, suffix_of
from nervecode.lab.data.by_path.bad_rows import BadRows
from nervecode.lab.data.by_path.cells import as_categories, checked_numbers
from nervecode.lab.data.by_path.csv_files import csv_blocks, csv_layout
from nervecode.lab.data.by_path.parquet_files import parquet_blocks, parquet_names

if TYPE_CHECKING:
    from pandas import DataFrame

TABLE_SUFFIXES = (".csv", ".tsv", ".parquet")
BLOCK = 1 << 16  # rows


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


def typed_blocks(
    path: Path, names: Sequence[str], numbers: Sequence[str], bad: BadRows | None = None
) -> Iterator[DataFrame]:
    """The same, a block at a time; `bad` is told of rows that cannot be read, which are refused.

    Raises:
        InputError: as `read_table`.
    """
    bad, start = bad or BadRows(), 0
    for block in blocks(path, names, bad):
        yield block.assign(
            **{
                name: checked_numbers(block[name], path, start, bad)
                if name in numbers
                else as_categories(block[name])
                for name in names
            }
        )
        start += len(block)


def column_names(path: Path) -> list[str]:
    """The names of a table's columns; nothing else of it is read but what tells its separator.

    Raises:
        MissingExtraError: pandas is not installed, or pyarrow for Parquet.
        InputError: a file that is absent or cannot be read.
    """
    _check_kind(path)
    with _readable(path):
        if suffix_of(path) == ".parquet":
            return parquet_names(path)
        return [name for name in csv_layout(path).names if name]


def blocks(path: Path, names: Sequence[str], bad: BadRows | None = None) -> Iterator[DataFrame]:
    """Rows of a table as texts (or as what a Parquet file has), some columns of it.

    `bad` is told of rows that cannot be read, which are refused.

    Raises:
        MissingExtraError: pandas is not installed, or pyarrow for Parquet.
        InputError: a file that is absent or cannot be read, or lacks a column.
    """
    _check_kind(path)
    with _readable(path):
        if suffix_of(path) == ".parquet":
            yield from parquet_blocks(path, names, BLOCK)
        else:
            yield from csv_blocks(path, names, BLOCK, bad or BadRows())


def _check_kind(path: Path) -> None:
    need_extra(f"{path.name}:", "pandas", "tables")
    if suffix_of(path) not in TABLE_SUFFIXES:
        raise InputError(f"{path}: found {path.suffix!r}, allowed: {', '.join(TABLE_SUFFIXES)}")
    if suffix_of(path) == ".parquet":
        need_extra(f"{path.name}:", "pyarrow", "tables")


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn the errors of the readers into one sentence."""
    try:
        yield
    except (InputError, GeneratorExit):
        raise
    except FileNotFoundError:
        raise InputError(absent(path)) from None
    except Exception as error:  # pandas and pyarrow each raise errors of their own
        reason = one_line(error)
        raise InputError(f"{path}: not a readable table ({reason})") from None
