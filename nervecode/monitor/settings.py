"""MonitorSettings: what a monitor watches and what it promises."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nervecode.errors import InputError

Label = int | str
ALPHA = 0.01


@dataclass(frozen=True)
class MonitorSettings:
    """Checked settings; two monitors are of one kind exactly where these are equal.

    Attributes:
        n_calibration: calibration inputs in all.
        classes: (class, its calibration inputs), empty where classes are not watched.
        alpha: probability of a false alarm ever, or None.
        run_length: mean number of inputs to a false alarm, or None.
        layers: names of the layers.
        calibration: name or hash of the calibration set.
    """

    n_calibration: int
    classes: tuple[tuple[Label, int], ...]
    alpha: float | None
    run_length: float | None
    layers: tuple[str, ...]
    calibration: str

    @classmethod
    def checked(
        cls,
        n_calibration: int | Mapping[Any, int],
        alpha: float | None,
        run_length: float | None,
        layers: Sequence[str],
        calibration: str,
    ) -> MonitorSettings:
        """Settings from what a caller gave.

        Raises:
            InputError: a count, an alpha, a run length or names that make no sense.
        """
        classes: tuple[tuple[Label, int], ...] = ()
        counts: list[Any] = [n_calibration]
        if isinstance(n_calibration, Mapping):
            classes = tuple((label, count) for label, count in n_calibration.items())
            counts = [count for _, count in classes]
        if not counts or not all(_is_count(n) for n in counts) or sum(counts) < 1:
            raise InputError(
                f"n_calibration: found {n_calibration}, allowed: how many calibration inputs "
                "there are, at least 1, or that for each class"
            )
        if alpha is not None and run_length is not None:
            raise InputError("alpha and run_length: found both, allowed: one of them")
        if alpha is None and run_length is None:
            alpha = ALPHA
        for name, number in (("alpha", alpha), ("run_length", run_length)):
            if number is not None and not _is_number(number):
                raise InputError(f"{name}: found {number!r}, allowed: a number")
        if alpha is not None and not 0 < alpha < 1:
            raise InputError(f"alpha: found {alpha}, allowed: 0 < alpha < 1")
        if run_length is not None and not 1 < run_length < math.inf:
            raise InputError(f"run_length: found {run_length}, allowed: more than 1 input")
        if isinstance(layers, str) or not isinstance(layers, Iterable):
            raise InputError(f"layers: found {layers!r}, allowed: a list of names")
        names = tuple(layers)
        if not all(isinstance(name, str) for name in names):
            raise InputError(f"layers: found {list(names)}, allowed: names")
        if len(set(names)) < len(names):
            raise InputError(f"layers: found a name twice in {', '.join(names)}")
        return cls(int(sum(counts)), classes, alpha, run_length, names, calibration)

    @property
    def threshold(self) -> float:
        """The evidence at which the alarm is raised."""
        if self.run_length is not None:
            return self.run_length
        assert self.alpha is not None
        return 1 / self.alpha

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {
            "n_calibration": self.n_calibration,
            "classes": [list(pair) for pair in self.classes],
            "alpha": self.alpha,
            "run_length": self.run_length,
            "layers": list(self.layers),
            "calibration": self.calibration,
        }


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def _is_count(n: Any) -> bool:
    return isinstance(n, int | np.integer) and not isinstance(n, bool) and bool(n >= 0)
