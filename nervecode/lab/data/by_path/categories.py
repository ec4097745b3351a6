"""Texts of a table that are categories, and may stand for something else."""

from __future__ import annotations

import re
from collections.abc import Iterable

DATE = re.compile(r"(\d{4}([-/.])\d\d?\2\d\d?|\d\d?([-/.])\d\d?\3\d{4})([T ].*)?")
NUMBER = r"[-+]?\d+([.,]\d+)?"
UNIT = re.compile(rf"([$€£¥])\s*{NUMBER}|{NUMBER}\s*([^\d\s.,][^\d\s]*)")


def are_dates(texts: Iterable[str]) -> bool:
    """Whether all are dates, with or without a time."""
    return all(map(DATE.fullmatch, texts))


def what_to_do(texts: Iterable[str]) -> str:
    """The beginning of a hint, where all texts are dates, or numbers with one unit; else nothing.

    >>> what_to_do(["1 kg", "2.5 kg"])
    "without 'kg' they are numbers; "
    """
    several = list(texts)
    if len(several) < 2:
        return ""
    if are_dates(several):
        return "a date becomes numbers, such as a year, before it is an input; "
    units = {match and (match[1] or match[4]) for match in map(UNIT.fullmatch, several)}
    unit = units.pop()
    return f"without {unit!r} they are numbers; " if unit and not units else ""
