"""TableEncoder: columns of a table become numbers, by what ID train alone has shown."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.data.columns import are_whole, whole_name
from nervecode.lab.data.seen import Seen
from nervecode.lab.data.texts import what_to_do

if TYPE_CHECKING:
    from pandas import DataFrame, Series

MAX_CATEGORIES = 256  # of one column: names and dates have more, and tell nothing of a class
FORMAT = "nervecode-table-1"
MISSING = ""  # the category of an empty cell


@dataclass(frozen=True)
class Number:
    """A column of numbers: less their mean, over their deviation; the mean where one is missing."""

    name: str
    mean: float
    scale: float

    @property
    def width(self) -> int:
        """How many numbers a row has of this column."""
        return 1

    @classmethod
    def fitted(cls, column: Series) -> Number:
        """Mean and deviation (divisor N; 1 where all are equal), of what is not missing.

        Raises:
            InputError: float64 cannot hold the deviation.
        """
        values = column.to_numpy()
        values = values[~np.isnan(values)]
        if values.min() == values.max():  # whose mean and deviation may be rounded
            return cls(str(column.name), float(values[0]), 1.0)
        with np.errstate(over="ignore", invalid="ignore"):
            mean, scale = float(values.mean()), float(values.std())
        if not 0 < scale < np.inf:
            raise InputError(
                f"column {column.name!r} holds numbers from {values.min():.3g} to "
                f"{values.max():.3g}, allowed: those whose deviation float64 holds; "
                f"data.drop=[{column.name}] leaves it out"
            )
        return cls(str(column.name), mean, scale)

    def encode(self, column: Series, seen: Seen) -> np.ndarray:
        """(N, 1) float32."""
        values = column.to_numpy()
        missing = np.isnan(values)
        seen.missing[self.name] += int(missing.sum())
        with np.errstate(over="ignore"):  # `overflow` tells
            standard = (np.where(missing, self.mean, values) - self.mean) / self.scale
            return standard.astype(np.float32)[:, None]


@dataclass(frozen=True)
class Category:
    """A column of categories: one of `values` is 1, the others 0; all are 0 where it is none.

    7 and 7.0 are one category where all are whole numbers as they are usually written.
    """

    name: str
    values: tuple[str, ...]

    @property
    def width(self) -> int:
        """How many numbers a row has of this column."""
        return len(self.values)

    @classmethod
    def fitted(cls, column: Series) -> Category:
        """The categories that there are, in order; a missing one is a category of its own.

        Raises:
            InputError: more than `MAX_CATEGORIES`.
        """
        present = column.cat.remove_unused_categories().cat.categories
        names = set(map(str, present))
        names = set(map(whole_name, names)) if are_whole(names) else names
        values = [MISSING] * bool(column.isna().any()) + sorted(names)
        if len(values) > MAX_CATEGORIES:
            raise InputError(
                f"column {column.name!r} has {len(values):,} categories, such as {values[-1]!r}, "
                f"allowed: {MAX_CATEGORIES}; {what_to_do(values[-len(present) :])}"
                f"data.drop=[{column.name}] leaves it out"
            )
        return cls(str(column.name), tuple(values))

    def remarks(self, rows: int) -> list[str]:
        """What is to be told of texts that may be no categories, fitted to so many rows."""
        texts = [value for value in self.values if value != MISSING]
        hint = what_to_do(texts)
        if not hint and 2 * len(texts) <= rows:
            return []
        return [
            f"column {self.name!r} is taken as {len(texts):,} categories in {rows:,} rows of ID "
            f"train, such as {texts[-1]!r}; {hint}data.drop=[{self.name}] leaves it out, "
            f"data.categories=[{self.name}] keeps it"
        ]

    def encode(self, column: Series, seen: Seen) -> np.ndarray:
        """(N, width) float32."""
        places = {value: place for place, value in enumerate(self.values)}
        alike = whole_name if are_whole(places.keys() - {MISSING}) else str
        places = {alike(value): place for value, place in places.items()} | places
        names = map(str, column.cat.categories)
        known = [places.get(name, places.get(alike(name), -1)) for name in names]
        # A missing value has code -1, which takes the last.
        place = np.array([*known, places.get(MISSING, -1)])[column.cat.codes.to_numpy()]
        hot = np.zeros((len(place), self.width), np.float32)
        rows = np.flatnonzero(place >= 0)
        hot[rows, place[rows]] = 1
        seen.unseen[self.name] += len(place) - len(rows)
        return hot


@dataclass(frozen=True)
class TableEncoder:
    """The columns of a table, and what was fitted to each on ID train.

    Attributes:
        columns: in the order of the numbers that a row becomes.
    """

    columns: tuple[Number | Category, ...]

    @classmethod
    def fitted(cls, table: DataFrame) -> TableEncoder:
        """Numbers for columns of floats, categories for all others.

        Raises:
            InputError: a column without a value, or of too many categories.
        """
        return cls(tuple(_fitted(table[name]) for name in table.columns))

    @property
    def names(self) -> list[str]:
        """Of the columns."""
        return [column.name for column in self.columns]

    @property
    def width(self) -> int:
        """How many numbers a row becomes."""
        return sum(column.width for column in self.columns)

    @property
    def numbers(self) -> list[str]:
        """The names of the columns that hold numbers."""
        return [column.name for column in self.columns if isinstance(column, Number)]

    def encode(self, table: DataFrame, seen: Seen) -> Tensor:
        """(N, width) float32 of N rows; columns are found by their names."""
        parts = [column.encode(table[column.name], seen) for column in self.columns]
        return torch.from_numpy(np.concatenate(parts, 1))

    def overflow(self, encoded: Tensor) -> tuple[int, str] | None:
        """The first row with a number that float32 cannot hold once it is standardised, and which.

        Args:
            encoded: (N, width) what `encode` returned.
        """
        wrong = ~encoded.isfinite()
        if not wrong.any():
            return None
        row, place = wrong.nonzero()[0].tolist()
        return row, self.beyond(place)

    def beyond(self, place: int) -> str:
        """The column of a number of a row, which is too far from ID train."""
        name = next(
            column.name
            for column, end in zip(
                self.columns, accumulate(column.width for column in self.columns), strict=True
            )
            if place < end
        )
        return (
            f"column {name!r}: found a number that is infinite in deviations of ID train, "
            "allowed: finite float32 values"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values, from which `from_json` makes the same encoder."""
        columns = [
            {"name": column.name, "mean": column.mean, "scale": column.scale}
            if isinstance(column, Number)
            else {"name": column.name, "categories": list(column.values)}
            for column in self.columns
        ]
        return {"format": FORMAT, "columns": columns}

    @classmethod
    def from_json(cls, values: Any, *, source: str) -> TableEncoder:
        """What `to_json` wrote.

        Raises:
            ArtifactError: values of another kind; the message begins with `source`.
        """
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"found format {values['format']!r}, allowed: {FORMAT!r}")
            return cls(tuple(map(_column, values["columns"])))
        except (KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{source}: is damaged ({error})") from None


def _column(values: dict[str, Any]) -> Number | Category:
    if "categories" in values:
        return Category(str(values["name"]), tuple(map(str, values["categories"])))
    return Number(str(values["name"]), float(values["mean"]), float(values["scale"]))


def _fitted(column: Series) -> Number | Category:
    if column.isna().all():
        raise InputError(
            f"column {column.name!r} holds nothing in ID train; "
            f"data.drop=[{column.name}] leaves it out"
        )
    return Number.fitted(column) if column.dtype.kind == "f" else Category.fitted(column)
