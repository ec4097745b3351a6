"""StreamRanks: p-values as the ranks that they stand for, checked first of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nervecode.errors import InputError, did_you_mean
from nervecode.monitor.settings import Label, MonitorSettings

SLACK = 0.05  # of a rank: what float32, or a few decimals in a file, may be off


class StreamRanks:
    """The inputs of a stream as multiples of 1 / (n + 1), and rows of a `StreamState`.

    Args:
        settings: which classes and layers the inputs come with, and how many were calibrated.
    """

    def __init__(self, settings: MonitorSettings) -> None:
        self.layers = settings.layers
        self.rows = {label: row for row, (label, _) in enumerate(settings.classes)}
        counts = [count for _, count in settings.classes]
        self.n = np.array(counts or [settings.n_calibration])  # of each row
        self.n_layers = np.array(settings.n_calibration)

    def one(self, p_value: float, layers: Any, predicted: Any) -> Ranked:
        """Ranks of one input: () p-value, its row, (L,) layers."""
        row = self._row(predicted)
        p = np.array(as_rank("p_value", p_value, int(self.n[row])))
        return p, row, self._by_layer(layers, ())

    def many(self, p_values: Any, layers: Any, predicted: Any) -> RankedMany:
        """Ranks of N inputs: (N,) p-values, their rows, (N, L) layers."""
        values = as_array("p_values", p_values)
        if values.ndim != 1:
            raise InputError(f"p_values: found shape {values.shape}, allowed: (N,)")
        rows = self._each_row(predicted, len(values))
        return (
            as_ranks("p_value", values, self.n[rows]),
            rows,
            self._by_layer(layers, values.shape),
        )

    def _row(self, predicted: Label | None) -> int:
        if not self.rows:
            if predicted is None:
                return 0
            raise InputError(
                f"predicted: found {predicted!r}, but the p-values are of all classes together; "
                "allowed: with n_calibration for each class"
            )
        if predicted not in self.rows:
            hint = did_you_mean(str(predicted), map(str, self.rows))
            raise InputError(f"predicted: found {predicted!r}; {hint}")
        return self.rows[predicted]

    def _each_row(self, predicted: Any, n: int) -> np.ndarray:
        if predicted is None:
            return np.full(n, self._row(None) if n else 0)
        labels = np.asarray(predicted).tolist()
        if not isinstance(labels, list) or len(labels) != n:
            raise InputError(f"predicted: found {predicted!r}, allowed: a class for each p-value")
        return np.array([self._row(label) for label in labels], dtype=np.int64)

    def _by_layer(self, layers: Any, shape: tuple[int, ...]) -> np.ndarray | None:
        """(*shape, L) in the order of the settings."""
        if layers is None and not self.layers:
            return None
        if isinstance(layers, Mapping):
            odd = sorted(map(str, set(layers) ^ set(self.layers)))
            if odd:
                hint = did_you_mean(odd[0], self.layers)
                raise InputError(f"layers: {odd[0]!r} is missing or unknown; {hint}")
            layers = np.stack([as_array(name, layers[name]) for name in self.layers], axis=-1)
        values = as_array("layers", [] if layers is None else layers)
        if values.shape != (*shape, len(self.layers)):
            raise InputError(
                f"layers: found shape {values.shape}, allowed: {(*shape, len(self.layers))}, "
                f"a p-value of each of: {', '.join(self.layers) or '(none)'}"
            )
        return as_ranks("layers", values, self.n_layers)


Ranked = tuple[np.ndarray, int, np.ndarray | None]
RankedMany = tuple[np.ndarray, np.ndarray, np.ndarray | None]


def as_rank(name: str, p_value: float, n: int) -> float:
    """The multiple of 1 / (n + 1) that a conformal p-value is.

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
            f"{name}: found {p_value}, which {n} calibration inputs never give, "
            f"allowed: multiples of 1/{n + 1}{_rounded(p_value, place)}"
        )
    return float(rank / (n + 1))


def _rounded(p_value: float, place: float) -> str:
    """A hint, where a p-value has the few digits that a table shows."""
    for digits in (2, 3, 4, 5):
        if round(p_value, digits) == p_value and place >= 1 - SLACK:
            return f"; it looks rounded to {digits} digits: give p-values with all of them"
    return ""


def as_number(name: str, value: Any) -> float:
    """A number of any library, also as an array of one, as a float.

    Raises:
        InputError: a text, a truth value, None, or what is not one number.
    """
    given = value
    try:
        if hasattr(value, "item"):  # NumPy's and torch's
            value = value.item()
        if isinstance(value, bool | str | bytes):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name}: found {given!r}, allowed: a number") from None


def as_array(name: str, values: Any) -> np.ndarray:
    """Numbers as an array of floats.

    Raises:
        InputError: texts, truth values, or rows of different lengths.
    """
    try:
        array = np.asarray(values)
        if array.size and array.dtype.kind not in "iuf":
            raise TypeError
        return array.astype(float, copy=False)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"{name}: found {values!r}, allowed: numbers") from None


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
    ranks: np.ndarray = rank / (n + 1)
    return ranks
