"""UCI's own files of the tables that mlbench has: cells without names, commas or spaces between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nervecode.errors import InputError


@dataclass(frozen=True)
class UciTable:
    """Where the files of a table have what mlbench has of it.

    Attributes:
        width: the cells of a line.
        inputs: the places of the features.
        target: the place of the class.
        classes: what stands there -> the name of the class, in mlbench's order.
    """

    width: int
    inputs: slice
    target: int
    classes: Mapping[str, str]


UCI_TABLES: dict[str, UciTable] = {
    "letter": UciTable(17, slice(1, 17), 0, {c: c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}),
    "satellite": UciTable(
        37,
        slice(36),
        36,
        {
            "1": "red soil",
            "2": "cotton crop",
            "3": "grey soil",
            "4": "damp grey soil",
            "5": "vegetation stubble",
            "7": "very damp grey soil",
        },
    ),
    "shuttle": UciTable(
        10,
        slice(9),
        9,
        dict(
            zip(
                "1234567",
                ("Rad.Flow", "Fpv.Close", "Fpv.Open", "High", "Bypass", "Bpv.Close", "Bpv.Open"),
                strict=True,
            )
        ),
    ),
    "vehicle": UciTable(19, slice(18), 18, {c: c for c in ("bus", "opel", "saab", "van")}),
    # Part, speaker and sex come first; mlbench leaves the last of ten features out.
    "vowel": UciTable(
        14,
        slice(3, 12),
        13,
        {
            str(number): name
            for number, name in enumerate(
                ("hid", "hId", "hEd", "hAd", "hYd", "had", "hOd", "hod", "hUd", "hud", "hed")
            )
        },
    ),
}


def read_uci(name: str, paths: list[Path]) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """((N, D) float32 features, (N,) int64 labels, names of the classes) of a table.

    Args:
        name: the table's.
        paths: its files, one below the other.

    Raises:
        InputError: a file that cannot be read, or a row that is not of such a table.
    """
    table = UCI_TABLES[name]
    numbers = {cell: number for number, cell in enumerate(table.classes)}
    inputs, labels = [], []
    for path in paths:
        for row, line in enumerate(_lines(path)):
            cells = line.replace(",", " ").split()
            source = f"{path}: row {row}"
            if len(cells) != table.width:
                raise InputError(f"{source}: found {len(cells)} cells, allowed: {table.width}")
            if cells[table.target] not in numbers:
                allowed = ", ".join(numbers)
                raise InputError(
                    f"{source}: found the class {cells[table.target]!r}, allowed: {allowed}"
                )
            inputs.append(_numbers(cells[table.inputs], source))
            labels.append(numbers[cells[table.target]])
    return np.stack(inputs), np.array(labels), tuple(table.classes.values())


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    if not any(line.strip() for line in lines):
        raise InputError(f"{path}: holds no row")
    return [line for line in lines if line.strip()]


def _numbers(cells: list[str], source: str) -> np.ndarray:
    try:
        numbers = np.array(cells, np.float32)
    except ValueError as error:
        raise InputError(f"{source}: found no number ({error})") from None
    if not np.isfinite(numbers).all():
        raise InputError(f"{source}: found no finite number")
    return numbers
