"""Columns of a table as they were fitted to ID train: numbers, and categories."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.data.by_path.categories import what_to_do
from nervecode.lab.data.by_path.columns import spelled_alike
from nervecode.lab.data.seen import Seen

if TYPE_CHECKING:
    from pandas import Series

MAX_CATEGORIES = 256  # of one column: names and dates have more, and tell nothing of a class
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

    Spellings of one category are one, by `spelled_alike`.
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
        present = list(map(str, column.cat.remove_unused_categories().cat.categories))
        names = set(map(spelled_alike(present), present))
        values = [MISSING] * bool(column.isna().any()) + sorted(names)
        if len(values) > MAX_CATEGORIES:
            raise InputError(
                f"column {column.name!r} has {len(values):,} categories, such as {values[-1]!r}, "
                f"allowed: {MAX_CATEGORIES}; {what_to_do(sorted(names))}"
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
        alike = spelled_alike(places.keys() - {MISSING})
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
