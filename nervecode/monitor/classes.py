"""ClassRanks: p-values within the predicted class, from those of all classes together."""

from __future__ import annotations

import numpy as np

from nervecode.errors import InputError
from nervecode.monitor.ranks import as_rank


class ClassRanks:
    """How the calibration inputs of each predicted class lie among all of them.

    A p-value says how many calibration scores are at least as high. How many of them are of one
    class then follows from where those lie, so that no score is needed but the calibration's.

    Args:
        scores: (n,) calibration scores, higher is more surprising.
        predicted: (n,) the classes predicted for them.
        classes: all classes that may be predicted; None takes those of `predicted`.

    Raises:
        InputError: shapes that differ, or scores that are not finite.
    """

    def __init__(
        self, scores: np.ndarray, predicted: np.ndarray, *, classes: list[int] | None = None
    ) -> None:
        scores, predicted = np.asarray(scores, dtype=float), np.asarray(predicted)
        if scores.ndim != 1 or scores.shape != predicted.shape or not len(scores):
            raise InputError(
                f"calibration: found shapes {scores.shape} and {predicted.shape}, allowed: (n,)"
            )
        if not np.isfinite(scores).all():
            raise InputError("calibration scores: found NaN or infinity, allowed: finite numbers")
        self.n = len(scores)
        ordered = np.sort(scores)
        higher = self.n - np.searchsorted(ordered, scores, side="left")  # itself included
        labels = np.unique(predicted).tolist() if classes is None else classes
        self._places = {label: np.sort(higher[predicted == label]) for label in labels}

    @property
    def counts(self) -> dict[int, int]:
        """Class -> its calibration inputs, for `Monitor`."""
        return {label: len(places) for label, places in self._places.items()}

    def p_value(self, p_value: float, predicted: int) -> float:
        """The p-value within the predicted class of an input with this one among all.

        Raises:
            InputError: an unknown class, or no p-value of so many calibration inputs.
        """
        places = self._places.get(predicted)
        if places is None:
            raise InputError(f"predicted: found {predicted!r}, allowed: {list(self._places)}")
        higher = round(as_rank("p_value", p_value, self.n) * (self.n + 1)) - 1
        return (1 + int(np.searchsorted(places, higher, side="right"))) / (len(places) + 1)
