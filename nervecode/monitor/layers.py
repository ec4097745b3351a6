"""LayerRanks: the p-value of each layer's surprise, ties broken at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nervecode.errors import InputError
from nervecode.monitor.checks import as_array
from nervecode.monitor.ties import seed_of


class LayerRanks:
    """How the calibration inputs' surprise lies in each layer.

    Many inputs may have the same surprise in a layer, such as 0 bits for the label where the head
    is sure. Each calibration input has a random number beside its surprise, and so has each input
    that comes: pairs of both have no ties, and ranks are what a monitor expects.

    Args:
        surprise: layer -> (n,) surprise of the calibration inputs, of as many in each.
        seed: of the draws, which depend on it, on the calibration inputs and on the input's number.

    Raises:
        InputError: no layer, values that are not finite numbers, or a seed below 0.
    """

    def __init__(self, surprise: Mapping[str, Any], *, seed: int = 0) -> None:
        self.names = tuple(surprise)
        self.seed = _count("seed", seed)
        values = [as_array(f"calibration layers: {name}", surprise[name]) for name in self.names]
        if not values or not all(np.isfinite(each).all() for each in values):
            raise InputError("calibration layers: found none, or NaN or infinity among them")
        shapes = {each.shape for each in values}
        if len(shapes) > 1 or len(shape := shapes.pop()) != 1 or not shape[0]:
            found = ", ".join(str(each.shape) for each in values)
            raise InputError(f"calibration layers: found shapes {found}, allowed: (n,)")
        self.n = shape[0]
        self._seeds = [self.seed, seed_of(*values)]
        drawn = np.random.default_rng(self._seeds).random((len(values), self.n))
        order = [np.lexsort(pair) for pair in zip(drawn, values, strict=True)]
        self._ordered = [each[at] for each, at in zip(values, order, strict=True)]
        self._drawn = [each[at] for each, at in zip(drawn, order, strict=True)]

    def p_values(self, surprise: Sequence[float] | np.ndarray, number: int) -> np.ndarray:
        """(L,) p-values of the input of that number, from its surprise in each layer.

        What could not be computed, NaN, is the most surprising, as everywhere.

        Args:
            surprise: (L,) in the order of `names`.
            number: of the input, another for each of a stream, and of all streams to be merged.

        Raises:
            InputError: another number of layers, what is no number, or a number below 0.
        """
        values = np.nan_to_num(as_array("layers", surprise), nan=np.inf, posinf=np.inf)
        if values.shape != (len(self.names),):
            raise InputError(f"layers: found {surprise}, allowed: {len(self.names)} numbers")
        number = _count("number", number)
        below = np.array([o.searchsorted(v) for o, v in zip(self._ordered, values, strict=True)])
        upto = np.array(
            [o.searchsorted(v, side="right") for o, v in zip(self._ordered, values, strict=True)]
        )
        tied = np.flatnonzero(upto > below).tolist()
        if tied:
            drawn = np.random.default_rng([*self._seeds, number]).random(len(self.names))
            for i in tied:
                among = self._drawn[i][below[i] : upto[i]]
                upto[i] = below[i] + among.searchsorted(drawn[i])
        p: np.ndarray = (1 + self.n - upto) / (self.n + 1)
        return p


def _count(name: str, given: Any) -> int:
    if not isinstance(given, int | np.integer) or isinstance(given, bool) or given < 0:
        raise InputError(f"{name}: found {given!r}, allowed: 0, 1, 2, ...")
    return int(given)
