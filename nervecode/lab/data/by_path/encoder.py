"""TableEncoder: columns of a table become numbers, by what ID train alone has shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.data.by_path.encoded import Category, Number
from nervecode.lab.data.seen import Seen

if TYPE_CHECKING:
    from pandas import DataFrame, Series

FORMAT = "nervecode-table-1"


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
        name = [column.name for column in self.columns for _ in range(column.width)][place]
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
