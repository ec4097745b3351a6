"""Cells of tables: numbers, categories, or missing.

One is missing where it is one of `columns.MISSING_WORDS`.
"""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nervecode.lab.data.by_path.bad_rows import BadRows
from nervecode.lab.data.by_path.columns import MISSING_WORDS, spelling

if TYPE_CHECKING:
    from pandas import Series

INTEGER = r"[-+]?\d+"
MAX_EXACT = 1 << 53  # float64 holds all integers up to here, and some beyond


def without_missing_words(column: Series) -> Series:
    """Texts with NaN where one is missing; numbers stay as they are."""
    if column.dtype.kind in "biuf":
        return column
    column = column.astype(object)
    return column.where(~column.isin(MISSING_WORDS))


def as_numbers(column: Series) -> Series:
    """float64; NaN for what is missing or no finite number."""
    import pandas as pd

    if column.dtype.kind == "b":
        return pd.Series(np.nan, column.index)
    values = pd.to_numeric(column, errors="coerce").astype("float64")
    return values.where(np.isfinite(values))


def checked_numbers(column: Series, path: Path, start: int, bad: BadRows) -> Series:
    """The same of a column that begins at row `start` of a file.

    `bad` is told of something else, and of an integer that float64 cannot hold.
    """
    values = as_numbers(column)
    for row in np.flatnonzero(values.isna() & column.notna()).tolist():
        bad.add(
            start + row,
            f"{path}: row {start + row}, column {column.name!r}: found "
            f"{str(column.iloc[row])!r}, allowed: a number, or nothing",
        )
    _check_exact(column, values, path, start, bad)
    return values


def _check_exact(column: Series, values: Series, path: Path, start: int, bad: BadRows) -> None:
    """Tell of an integer that became another as float64; few columns have one so large."""
    large = np.flatnonzero(values.abs().to_numpy() >= MAX_EXACT)
    if not len(large) or column.dtype.kind == "f":
        return
    texts = column.iloc[large].astype(str).str.strip()
    integers = texts.str.fullmatch(INTEGER).to_numpy(bool)
    large, texts = large[integers], texts[integers]
    # A Decimal and a float are compared exactly.
    wrong = texts.map(Decimal).to_numpy(object) != values.to_numpy()[large].astype(object)
    for place in np.flatnonzero(wrong).tolist():
        row = start + int(large[place])
        bad.add(
            row,
            f"{path}: row {row}, column {column.name!r}: found "
            f"{texts.iloc[place]}, allowed: integers that float64 holds exactly, as all up to "
            f"{MAX_EXACT:,}; data.categories=[{column.name}] takes the column as categories, "
            f"data.drop=[{column.name}] leaves it out",
        )


def as_categories(column: Series) -> Series:
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
