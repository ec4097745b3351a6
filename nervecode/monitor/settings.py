"""MonitorSettings: what a monitor watches and what it promises."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nervecode.errors import InputError
from nervecode.monitor.checks import Label, as_array, as_label, brief
from nervecode.monitor.ties import MASK, Ties, seed_of, ties_among

ALPHA = 0.01
MOST = 1e300  # inputs of a run length, which a float holds


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
        ties: equal calibration scores, of each class or of all; none where only n is known.
        seed: of the draws among these, made of the scores; 0 where there are none.
    """

    n_calibration: int
    classes: tuple[tuple[Label, int], ...]
    alpha: float | None
    run_length: float | None
    layers: tuple[str, ...]
    calibration: str
    ties: tuple[Ties, ...]
    seed: int

    @classmethod
    def checked(
        cls, behind: Any, alpha: Any, run_length: Any, layers: Any, calibration: Any
    ) -> MonitorSettings:
        """Settings from what a caller gave.

        Raises:
            InputError: a count, scores, an alpha, a run length or names that make no sense.
        """
        labels = _labels(behind) if isinstance(behind, Mapping) else ()
        each = [_behind(part) for part in (behind.values() if labels else [behind])]
        counts = [n for n, _, _ in each]
        if sum(counts) < 1:
            raise InputError(f"n_calibration: found {brief(behind)}, {ALLOWED}")
        if not isinstance(calibration, str):
            raise InputError(f"calibration: found {calibration!r}, allowed: a text")
        alpha, run_length = _promise(alpha, run_length)
        classes = tuple(zip(labels, counts, strict=bool(labels)))
        ties = tuple(equal for _, equal, _ in each)
        seed = sum(seed for _, _, seed in each) & MASK
        return cls(
            sum(counts), classes, alpha, run_length, _names(layers), str(calibration), ties, seed
        )

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
            "ties": [[list(pair) for pair in equal] for equal in self.ties],
            "seed": self.seed,
        }


ALLOWED = (
    "allowed: how many calibration inputs there are, at least 1, or their scores, or either "
    "for each class"
)


def _behind(given: Any) -> tuple[int, Ties, int]:
    """How many calibration inputs there are, which scores are equal, and a seed for these."""
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and given >= 0:
        return int(given), (), 0
    if isinstance(given, list | tuple) or getattr(given, "ndim", 0) == 1:
        scores = as_array("n_calibration", given)
        if scores.ndim == 1 and not np.isnan(scores).any():
            scores = scores[np.isfinite(scores)]  # infinite ones are no part of a calibration set
            ties = ties_among(scores)
            return len(scores), ties, seed_of(scores) if ties else 0
    raise InputError(f"n_calibration: found {brief(given)}, {ALLOWED}")


def _labels(behind: Mapping[Any, Any]) -> tuple[Label, ...]:
    labels = tuple(as_label("n_calibration: class", label) for label in behind)
    if not labels or len(set(labels)) < len(labels):
        raise InputError(f"n_calibration: found {brief(behind)}, {ALLOWED}")
    return labels


def _promise(alpha: Any, run_length: Any) -> tuple[float | None, float | None]:
    if alpha is not None and run_length is not None:
        raise InputError("alpha and run_length: found both, allowed: one of them")
    if alpha is None and run_length is None:
        alpha = ALPHA
    for name, number in (("alpha", alpha), ("run_length", run_length)):
        if number is not None and not _is_number(number):
            raise InputError(f"{name}: found {number!r}, allowed: a number")
    if alpha is not None and not 0 < alpha < 1:
        raise InputError(f"alpha: found {alpha}, allowed: 0 < alpha < 1")
    if run_length is not None and not 1 < run_length < MOST:
        raise InputError(f"run_length: found {brief(run_length)}, allowed: more than 1 input")
    return (
        None if alpha is None else float(alpha),
        None if run_length is None else float(run_length),
    )


def _names(layers: Any) -> tuple[str, ...]:
    if isinstance(layers, str | bytes) or not isinstance(layers, Iterable):
        raise InputError(f"layers: found {layers!r}, allowed: a list of names")
    names = tuple(layers)
    if not all(isinstance(name, str) for name in names):
        raise InputError(f"layers: found {list(names)}, allowed: names")
    if len(set(names)) < len(names):
        raise InputError(f"layers: found a name twice in {', '.join(names)}")
    return tuple(map(str, names))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
