"""LayerRanks: the p-value of each layer's surprise, ties broken at random."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nervecode.errors import InputError


class LayerRanks:
    """How the calibration inputs' surprise lies in each layer.

    Many inputs may have the same surprise in a layer, such as 0 bits for the label where the head
    is sure. Their ranks are drawn at random, so that they are what a monitor expects.

    Args:
        surprise: layer -> (n,) surprise of the calibration inputs.
        seed: of the draws, which depend on it and on the input's number alone.

    Raises:
        InputError: no layer, or values that are not finite.
    """

    def __init__(self, surprise: Mapping[str, np.ndarray], *, seed: int = 0) -> None:
        self.names = tuple(surprise)
        self.seed = seed
        self._ordered = [np.sort(np.asarray(values, dtype=float)) for values in surprise.values()]
        if not self._ordered or not all(np.isfinite(values).all() for values in self._ordered):
            raise InputError("calibration layers: found none, or NaN or infinity among them")

    def p_values(self, surprise: Sequence[float], number: int) -> np.ndarray:
        """(L,) p-values of the input of that number, from its surprise in each layer.

        What could not be computed, NaN, is the most surprising, as everywhere.

        Raises:
            InputError: another number of layers.
        """
        values = np.nan_to_num(np.asarray(surprise, dtype=float), nan=np.inf, posinf=np.inf)
        if values.shape != (len(self.names),):
            raise InputError(f"layers: found {list(surprise)}, allowed: {len(self.names)} numbers")
        pairs = list(zip(self._ordered, values, strict=True))
        below = np.array([ordered.searchsorted(v, side="left") for ordered, v in pairs])
        upto = np.array([ordered.searchsorted(v, side="right") for ordered, v in pairs])
        above = np.array([len(ordered) for ordered in self._ordered]) - upto
        ties = upto - below
        if ties.any():
            above += np.random.default_rng([self.seed, number]).integers(0, ties + 1)
        p: np.ndarray = (1 + above) / (np.array([len(o) for o in self._ordered]) + 1)
        return p
