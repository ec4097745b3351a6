"""Rows: what a file by path holds, read and not yet understood: inputs, and columns beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.files import suffix_of
from nervecode.lab.data.by_path.array_files import as_inputs, column_array, inputs_array
from nervecode.lab.data.by_path.columns import Column, check_columns
from nervecode.lab.data.by_path.memory import check_size
from nervecode.lab.data.by_path.series_files import read_ts
from nervecode.lab.data.by_path.survey import Contents, survey
from nervecode.lab.data.by_path.table_files import column_names, read_table
from nervecode.lab.data.seen import Seen
from nervecode.lab.schema import DataConfig

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True)
class Rows:
    """The rows of one file, or of a training and a test file.

    Attributes:
        inputs: of all rows; the numbers of rows, where a table is not encoded yet.
        counts: rows of each file.
        columns: what was asked for beside the inputs, by the key of the config.
        table: of the files together.
        seen: what is to be told of the inputs.
    """

    inputs: Tensor
    counts: tuple[int, ...]
    columns: dict[str, Column]
    table: DataFrame | None = None
    seen: Seen = field(default_factory=Seen)

    def place(self, row: int, paths: Sequence[Path]) -> str:
        """The file of a row, and its number there."""
        for path, count in zip(paths, self.counts, strict=True):
            if row < count:
                return f"{path}: row {row}"
            row -= count
        raise AssertionError(row)


def _array_rows(paths: Sequence[Path], config: DataConfig) -> Rows:
    series = config.id.startswith("series:")
    seen = Seen()
    files = [read_inputs(path, series=series, seen=seen) for path in paths]
    shapes = {tuple(inputs.shape[1:]) for inputs, _ in files}
    if len(shapes) > 1:
        raise InputError(
            f"data.test: {paths[1]} holds inputs of shape {tuple(files[1][0].shape[1:])}, allowed: "
            f"{tuple(files[0][0].shape[1:])}, as in {paths[0]}"
        )
    keys = {"target": config.target or "y", "split": config.split, "group": config.group}
    columns = {}
    for key, name in keys.items():
        values = [
            _beside(path, name, classes, key=key) if name else None
            for path, (_, classes) in zip(paths, files, strict=True)
        ]
        given = [value for value in values if value is not None]
        if given:
            _check_lengths(paths, files, given, f"data.{key}")
            columns[key] = Column.of_arrays(given)
    inputs = files[0][0] if len(files) == 1 else torch.cat([inputs for inputs, _ in files])
    return Rows(inputs, tuple(len(inputs) for inputs, _ in files), columns, seen=seen)


def _table_rows(paths: Sequence[Path], config: DataConfig) -> Rows:
    keys = {"target": config.target, "split": config.split, "group": config.group}
    beside = {key: name for key, name in keys.items() if name}
    present = column_names(paths[0])
    for key, names in (
        *((key, [name]) for key, name in beside.items()),
        ("categories", config.categories),
        ("drop", config.drop),
    ):
        check_columns(paths[0], present, names, key=f"data.{key}")
    columns = [name for name in present if name not in (*beside.values(), *config.drop)]
    if not columns:
        raise InputError(f"{paths[0]}: has no column beside the target, allowed: one or more")
    contents = survey(paths[0], columns)
    check_size(paths[0], 8 * contents.rows * len(columns), instead="fewer columns (data.drop)")
    numbers = [name for name in columns if _is_number(contents, name, paths[0], config)]
    table, counts = read_table(paths, [*columns, *dict.fromkeys(beside.values())], numbers)
    found = {key: _coded(table, name) for key, name in beside.items()}
    return Rows(torch.arange(len(table)), counts, found, table[columns])


def _is_number(contents: Contents, name: str, path: Path, config: DataConfig) -> bool:
    """Whether a column holds numbers; texts among them are refused."""
    kind = contents.kinds[name]
    if name in config.categories:
        return False
    if kind.text is not None and 2 * kind.commas > kind.numbers + kind.texts:
        row, text = kind.text
        raise InputError(
            f"{path}: row {row}, column {name!r}: found {text!r}, allowed: numbers with a decimal "
            f"point and nothing between thousands; data.categories=[{name}] takes the column as "
            "categories"
        )
    if not kind.numbers:
        return False
    if kind.text is not None:
        row, text = kind.text
        raise InputError(
            f"{path}: row {row}, column {name!r}: found {text!r}, allowed: a number as in "
            f"{kind.numbers:,} other rows, or nothing; data.categories=[{name}] takes the column "
            f"as categories, data.drop=[{name}] leaves it out"
        )
    return True


def read_inputs(path: Path, *, series: bool, seen: Seen) -> tuple[Tensor, np.ndarray | None]:
    """(inputs, the classes that are among them: of `.ts` alone).

    Raises:
        InputError: a file that cannot be read, or inputs of another shape or type.
    """
    if series and suffix_of(path) == ".ts":
        array, classes = read_ts(path, seen)
        return torch.from_numpy(array), classes
    return as_inputs(inputs_array(path), str(path), series=series, seen=seen), None


def _beside(path: Path, name: str, classes: np.ndarray | None, *, key: str) -> np.ndarray | None:
    if suffix_of(path) != ".ts":
        return column_array(path, name, key=f"data.{key}")
    if key != "target":
        raise InputError(f"data.{key}: found {name!r}, allowed: none, since {path} has no columns")
    return classes


def _check_lengths(
    paths: Sequence[Path],
    files: Sequence[tuple[Tensor, np.ndarray | None]],
    columns: Sequence[np.ndarray],
    key: str,
) -> None:
    for path, (inputs, _), column in zip(paths, files, columns, strict=True):
        if len(inputs) != len(column):
            raise InputError(
                f"{key}: {path}: found {len(column):,} values for {len(inputs):,} inputs"
            )


def _coded(table: DataFrame, name: str) -> Column:
    values = table[name].cat
    return Column(tuple(map(str, values.categories)), values.codes.to_numpy())


READERS: dict[str, Callable[[Sequence[Path], DataConfig], Rows]] = {
    "array": _array_rows,
    "series": _array_rows,
    "table": _table_rows,
}
