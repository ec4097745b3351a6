"""Rates of errors that are allowed: their range, and what may be selected at one. Python alone."""

from __future__ import annotations

from collections.abc import Mapping

from nervecode.errors import InputError

ROUNDING = 1e-9  # what alpha (n + 1) may lack of a whole number


def largest_selected(counts: Mapping[float, int], rate: float) -> float:
    """The p-value up to which Benjamini and Hochberg (1995) select.

    With m p-values, the largest p_(i) with m p_(i) <= rate i. What is equal but for rounding
    counts as equal, since a conformal p-value k / (n + 1) is rounded.

    Args:
        counts: how often each p-value comes.
        rate: the false-discovery rate, in (0, 1).

    Returns:
        The p-value; 0 where none is selected.
    """
    total, rank, largest = sum(counts.values()), 0, 0.0
    for p_value in sorted(counts):
        rank += counts[p_value]
        if p_value * total <= rate * rank * (1 + ROUNDING):
            largest = p_value
    return largest


def check_rate(name: str, rate: object) -> None:
    """Refuse a rate outside (0, 1).

    Args:
        name: of the argument or option, as its user knows it.
        rate: what was given for it.
    """
    if not is_within(rate):
        raise InputError(f"{name}: found {rate!r}, allowed: between 0 and 1")


def is_within(fraction: object, least: float = 0.0) -> bool:
    """Whether something is a number above 0, of at least `least`, and below 1."""
    try:
        return 0 < fraction < 1 and fraction >= least  # type: ignore[operator]
    except (TypeError, ValueError, RuntimeError):  # no number, or several
        return False
