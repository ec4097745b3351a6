"""Columns: what stands beside the inputs of a set by path: classes, parts, groups."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from nervecode.errors import InputError, did_you_mean

MISSING_WORDS = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "?")
TRUTH = {"True", "False"}
WHOLE = re.compile(r"(0|-?[1-9][0-9]{0,999})(\.0)?")  # a whole number as it is usually written


@dataclass(frozen=True)
class Column:
    """(N,) codes of the values of a column, -1 where one is missing; and the values as texts."""

    names: tuple[str, ...]
    codes: np.ndarray

    @classmethod
    def of_arrays(cls, files: Sequence[np.ndarray]) -> Column:
        """The values of some files, one below the other, whatever type each file has for them."""
        names: dict[str, int] = {}
        codes = []
        for values in files:
            distinct, places = np.unique(values, return_inverse=True)
            texts = [spelling(value) for value in distinct]
            numbers = [
                -1 if text in MISSING_WORDS else names.setdefault(text, len(names))
                for text in texts
            ]
            codes.append(np.array(numbers, np.int64)[places])
        return cls(tuple(names), np.concatenate(codes))

    @property
    def used(self) -> list[int]:
        """The codes that there are, in order."""
        codes: list[int] = np.unique(self.codes[self.codes >= 0]).tolist()
        return codes

    @property
    def is_whole(self) -> bool:
        """Whether all values are whole numbers as they are usually written: 7 or 7.0, not 07."""
        return are_whole(self.names[code] for code in self.used)

    def merged(self) -> Column:
        """The same with 7 and 7.0 as one value, where all are whole numbers; texts stay."""
        if not self.is_whole:
            return self
        names: dict[str, int] = {}
        number = np.full(len(self.names) + 1, -1)  # the last is that of a missing value
        for code in self.used:
            number[code] = names.setdefault(whole_name(self.names[code]), len(names))
        return Column(tuple(names), number[self.codes])


def are_whole(names: Iterable[str]) -> bool:
    """Whether all texts are whole numbers as they are usually written."""
    return all(map(WHOLE.fullmatch, names))


def whole_name(name: str) -> str:
    """7 for 7 and 7.0, where that is a whole number as it is usually written; else the text."""
    return name.removesuffix(".0") if WHOLE.fullmatch(name) else name


def spelled_alike(names: Iterable[str]) -> Callable[[str], str]:
    """What gives the spellings of one category one text, in a column with these categories.

    7 and 7.0 are one among whole numbers, true, True and TRUE where there is nothing but truth.
    """
    names = list(names)
    if are_whole(names):
        return whole_name
    return str.capitalize if set(map(str.capitalize, names)) <= TRUTH else str


def spelling(value: Any) -> str:
    """The text of a value, without blanks around it; a whole number is one in any type."""
    if isinstance(value, (float, np.floating, Decimal)) and value % 1 == 0:
        return str(int(value))
    return str(value).strip()


def check_columns(
    path: Path, present: Sequence[str], wanted: Sequence[str], *, key: str = ""
) -> None:
    """Refuse a table that lacks a column; the nearest name is shown.

    Raises:
        InputError: it lacks one. Where a `key` named it, the message begins with that, and says
            which are allowed; else which there are, and which are needed.
    """
    for name in wanted:
        if name not in present:
            hint = did_you_mean(name, present)
            if not key:
                hint = f"{hint.replace('Allowed', 'Found')}; needed: {', '.join(wanted)}"
            where = f"{key}: " if key else ""
            raise InputError(f"{where}{path} has no column {name!r}; {hint}")
