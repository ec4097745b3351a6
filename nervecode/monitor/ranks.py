"""StreamRanks: p-values as the ranks that they stand for, checked first of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nervecode.errors import InputError, did_you_mean
from nervecode.monitor.checks import Label, as_array, as_label, as_labels, as_rank, as_ranks
from nervecode.monitor.settings import MonitorSettings
from nervecode.monitor.ties import TieBreaker


class Ranked(NamedTuple):
    """One input of a stream, or N of them.

    Attributes:
        p: () or (N,) p-values, ties broken.
        row: the row of each in a `StreamState`.
        by_layer: (L,) or (N, L) p-values of the layers; None without layers.
        salt: () or (N,) what an input adds to the salt of the draws after it; 0 without ties.
    """

    p: np.ndarray
    row: Any
    by_layer: np.ndarray | None
    salt: Any

    def part(self, start: int, stop: int) -> Ranked:
        """Some of N inputs."""
        at = slice(start, stop)
        by_layer = None if self.by_layer is None else self.by_layer[at]
        return Ranked(self.p[at], self.row[at], by_layer, self.salt[at])


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
        self._counts = self.n.tolist()
        self._ties: TieBreaker | None = None
        if any(settings.ties):
            self._ties = TieBreaker(settings.ties, self.n, settings.seed)

    def one(self, p_value: Any, layers: Any, predicted: Any, *, number: int, salt: int) -> Ranked:
        """The input of that number."""
        row = self._row("predicted", predicted)
        n = self._counts[row]
        rank = given = as_rank("p_value", p_value, n)
        by_layer = self._by_layer(layers, ())
        if self._ties is None:
            return Ranked(np.array(rank / (n + 1)), row, by_layer, 0)
        rank = self._ties.one(rank, row, number, salt)
        return Ranked(np.array(rank / (n + 1)), row, by_layer, given)

    def many(self, p_values: Any, layers: Any, predicted: Any, *, number: int, salt: int) -> Ranked:
        """N inputs, the first of that number."""
        values = as_array("p_values", p_values)
        if values.ndim != 1:
            raise InputError(f"p_values: found shape {values.shape}, allowed: (N,)")
        rows = self._each_row(predicted, len(values))
        n = self.n[rows]
        ranks = given = as_ranks("p_value", values, n)
        by_layer = self._by_layer(layers, values.shape)
        if self._ties is None:
            return Ranked(ranks / (n + 1), rows, by_layer, np.zeros_like(given))
        added = given.astype(np.uint64)  # which wraps around, as the salt does
        before = np.uint64(salt) + added.cumsum() - added
        ranks = self._ties.many(ranks, rows, number + np.arange(len(ranks)), before)
        return Ranked(ranks / (n + 1), rows, by_layer, given)

    def _row(self, name: str, predicted: Any) -> int:
        if not self.rows:
            if predicted is None:
                return 0
            raise InputError(
                f"{name}: found {predicted!r}, but the p-values are of all classes together; "
                "allowed: with n_calibration for each class"
            )
        if predicted is None:
            raise InputError(f"{name}: found None, allowed: a class")
        label = as_label(name, predicted)
        if label not in self.rows:
            raise InputError(f"{name}: found {label!r}; {self._allowed(label)}")
        return self.rows[label]

    def _allowed(self, label: Label) -> str:
        alike = next((known for known in self.rows if str(known) == str(label)), None)
        if alike is not None:
            kind = "a text" if isinstance(alike, str) else "a whole number"
            return f"allowed: {alike!r}, {kind}"
        return did_you_mean(str(label), map(str, self.rows))

    def _each_row(self, predicted: Any, n: int) -> np.ndarray:
        if predicted is None:
            return np.full(n, self._row("predicted", None) if n else 0)
        labels = as_labels("predicted", predicted)
        if len(labels) != n:
            raise InputError(
                f"predicted: found {len(labels)} for {n} p-values, allowed: a class for each "
                "p-value"
            )
        rows = [self._row(f"predicted[{i}]", label) for i, label in enumerate(labels)]
        return np.array(rows, dtype=np.int64)

    def _by_layer(self, layers: Any, shape: tuple[int, ...]) -> np.ndarray | None:
        """(*shape, L) in the order of the settings."""
        if layers is None and not self.layers:
            return None
        if isinstance(layers, Mapping):
            layers = self._in_order(layers, shape)
        values = as_array("layers", [] if layers is None else layers)
        if values.shape != (*shape, len(self.layers)):
            raise InputError(
                f"layers: found shape {values.shape}, allowed: {(*shape, len(self.layers))}, "
                f"a p-value of each of: {', '.join(self.layers) or '(none)'}"
            )
        ranks: np.ndarray = as_ranks("layers", values, self.n_layers) / (self.n_layers + 1)
        return ranks

    def _in_order(self, layers: Mapping[Any, Any], shape: tuple[int, ...]) -> np.ndarray:
        for name in layers:
            if name not in self.layers:
                hint = did_you_mean(str(name), self.layers)
                raise InputError(f"layers: found {name!r}; {hint}")
        columns = []
        for name in self.layers:
            if name not in layers:
                raise InputError(f"layers: {name!r} is missing, allowed: a p-value of each layer")
            columns.append(as_array(f"layers[{name!r}]", layers[name]))
            if columns[-1].shape != shape:
                raise InputError(
                    f"layers[{name!r}]: found shape {columns[-1].shape}, allowed: {shape}"
                )
        return np.stack(columns, axis=-1)
