"""What a caller of any library gives as a number, a class or a p-value, checked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from nervecode.errors import InputError

Label = int | str
SLACK = 0.05  # of a rank: what float32, or a few decimals in a file, may be off


def as_number(name: str, value: Any) -> float:
    """A number of any library, also as an array of one, as a float.

    Raises:
        InputError: a text, a truth value, None, a masked value, or what is not one number.
    """
    given = value
    try:
        if np.ma.is_masked(value):
            raise TypeError
        if hasattr(value, "item"):  # NumPy's and torch's
            value = value.item()
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"{name}: found {brief(given)}, allowed: a number") from None


def as_array(name: str, values: Any) -> np.ndarray:
    """Numbers as an array of floats.

    Raises:
        InputError: texts, truth values, masked values, or rows of different lengths.
    """
    try:
        if np.ma.is_masked(values) or _has_truth(values):
            raise TypeError
        array = np.asarray(values)
        if array.size and array.dtype.kind not in "iuf":
            raise TypeError
        return array.astype(float, copy=False)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name}: found {brief(values)}, allowed: numbers") from None


def as_label(name: str, value: Any) -> Label:
    """A class as JSON holds it.

    Raises:
        InputError: neither a whole number nor a text.
    """
    label = value.item() if getattr(value, "shape", None) == () else value
    if isinstance(label, str):
        return str(label)
    if isinstance(label, int) and not isinstance(label, bool):
        return int(label)
    raise InputError(f"{name}: found {brief(value)}, allowed: a whole number or a text")


def as_labels(name: str, values: Any) -> list[Any]:
    """Classes of many inputs as a list of what `as_label` takes.

    Raises:
        InputError: no list of them.
    """
    listed = values.tolist() if hasattr(values, "tolist") else values  # a list keeps its types
    if isinstance(listed, str | bytes) or not isinstance(listed, Iterable):
        raise InputError(f"{name}: found {brief(values)}, allowed: a class for each p-value")
    return list(listed)


def as_rank(name: str, p_value: float, n: int) -> int:
    """The k of the conformal p-value k / (n + 1).

    Raises:
        InputError: outside (0, 1], NaN, or no p-value of n calibration inputs.
    """
    if type(p_value) is not float:
        p_value = as_number(name, p_value)
    if not 0 < p_value <= 1:
        raise InputError(f"{name}: found {p_value}, allowed: 0 < p <= 1")
    place = p_value * (n + 1)
    rank = round(place)
    if rank < 1 or abs(place - rank) > SLACK:
        raise InputError(
            f"{name}: found {p_value}, which {n} calibration inputs never give, allowed: "
            f"multiples of 1/{n + 1}, none by importance weights{_rounded(p_value, place)}"
        )
    return rank


def as_ranks(name: str, p_values: np.ndarray, n: np.ndarray) -> np.ndarray:
    """The same for an array, with the n of each p-value or of all; the first bad one is named."""
    place = p_values * (n + 1)
    rank = np.rint(np.nan_to_num(place))
    good = (p_values > 0) & (p_values <= 1) & (rank >= 1) & (np.abs(place - rank) <= SLACK)
    if not good.all():
        index = tuple(np.argwhere(~good)[0].tolist())
        where = "".join(f"[{i}]" for i in index)
        each = np.broadcast_to(n, good.shape)
        as_rank(f"{name}{where}", float(p_values[index]), int(each[index]))
    ranks: np.ndarray = rank.astype(np.int64)
    return ranks


def _rounded(p_value: float, place: float) -> str:
    """A hint, where a p-value has the few digits that a table shows."""
    for digits in (2, 3, 4, 5):
        if round(p_value, digits) == p_value and place >= 1 - SLACK:
            return f"; it looks rounded to {digits} digits: give p-values with all of them"
    return ""


def _has_truth(values: Any) -> bool:
    """Whether a list has a truth value in it, which an array would hold as 1 or 0."""
    if isinstance(values, list | tuple):
        return any(map(_has_truth, values))
    return isinstance(values, bool | np.bool_)


def brief(value: Any) -> str:
    """What was found, in one line that is not too long."""
    huge = isinstance(value, int) and abs(value) >= 1 << 64
    text = "a huge number" if huge else " ".join(repr(value).split())
    return text if len(text) <= 200 else text[:200] + " ..."
