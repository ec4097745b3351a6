"""Loggers: rows of diagnostics to a CSV or JSONL file."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from nervecode.errors import InputError

Row = Mapping[str, Any]


class CsvDiagnosticsLogger:
    """Appends rows to a CSV file; the first row names the columns.

    Args:
        path: the file; an existing one goes on, if its header is the same.

    Raises:
        InputError: a row whose columns are not those of the file.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.columns = self._existing_columns()

    def log(self, rows: Iterable[Row]) -> None:
        """Append rows, and flush."""
        rows = list(rows)
        if not rows:
            return
        fresh = self.columns is None
        columns = self.columns or list(rows[0])
        for row in rows:
            if set(row) != set(columns):
                raise InputError(f"{self.path}: found columns {sorted(row)}, allowed: {columns}")
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            if fresh:
                writer.writeheader()
            writer.writerows(rows)
        self.columns = columns

    def _existing_columns(self) -> list[str] | None:
        if not self.path.is_file() or not self.path.stat().st_size:
            return None
        with self.path.open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file))


class JsonlDiagnosticsLogger:
    """Appends rows to a file of one JSON object a line."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def log(self, rows: Iterable[Row]) -> None:
        """Append rows, and flush.

        Raises:
            InputError: a value that JSON does not know.
        """
        try:
            lines = [json.dumps(dict(row), allow_nan=False) + "\n" for row in rows]
        except (TypeError, ValueError) as error:
            raise InputError(f"{self.path}: a row cannot be written as JSON ({error})") from None
        with self.path.open("a", encoding="utf-8") as file:
            file.writelines(lines)
