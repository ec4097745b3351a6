"""Scored: percentile, p-value, flag and surprise per layer of some inputs, and how many so far."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from typing import Any, TypeVar

import numpy as np

from nervecode.errors import InputError

T = TypeVar("T")

SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Scored:
    """N scored inputs; `by_layer` is (N, L) in bits, the other arrays are (N,).

    `flag` is None where there are too few calibration inputs to flag any; `pooled` is None but for
    p-values within the predicted class, and says which of them are those of all classes.
    """

    ids: np.ndarray
    surprise: np.ndarray
    percentile: np.ndarray
    p_value: np.ndarray
    flag: np.ndarray | None = None
    prediction: np.ndarray
    by_layer: np.ndarray
    layers: tuple[str, ...]
    pooled: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def columns(self) -> dict[str, np.ndarray]:
        """Name -> array of every field that has a value per input."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "layers"}
        return {name: value for name, value in values.items() if value is not None}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One plain row per input; a layer's column is `bits:NAME`."""
        single = {name: c.tolist() for name, c in self.columns().items() if c.ndim == 1}
        single["id"] = single.pop("ids")
        single.setdefault("flag", [None] * len(self))
        order = ["id", "surprise", "percentile", "p_value", "flag", "prediction"]
        order += [] if self.pooled is None else ["pooled"]
        bits = [f"bits:{name}" for name in self.layers]
        for *values, by_layer in zip(
            *(single[n] for n in order), self.by_layer.tolist(), strict=True
        ):
            yield dict(zip((*order, *bits), (*values, *by_layer), strict=True))


def some(chunks: Iterable[T], source: str) -> Iterator[T]:
    """The same chunks.

    Raises:
        InputError: there is none.
    """
    empty = True
    for chunk in chunks:
        empty = False
        yield chunk
    if empty:
        raise InputError(f"{source}: none of the inputs is readable")


class Summary:
    """Counts scored inputs and those flagged, and keeps the most surprising."""

    def __init__(self) -> None:
        self.count = self.flagged = 0
        self.seconds = 0.0
        self.top: Scored | None = None

    def watching(self, chunks: Iterable[Scored]) -> Iterator[Scored]:
        """The same chunks, counted as they pass."""
        for chunk in chunks:
            self.count += len(chunk)
            self.flagged += 0 if chunk.flag is None else int(chunk.flag.sum())
            self.top = _most_surprising([chunk] if self.top is None else [self.top, chunk])
            yield chunk


def _most_surprising(chunks: list[Scored]) -> Scored:
    joined = {
        name: np.concatenate([chunk.columns()[name] for chunk in chunks])
        for name in chunks[0].columns()
    }
    order = (-joined["surprise"]).argsort(kind="stable")[:SHOWN]
    top = {name: column[order] for name, column in joined.items()}
    return Scored(**top, layers=chunks[0].layers)
