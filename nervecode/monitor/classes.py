"""ClassRanks: p-values within the predicted class, from those of all classes together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nervecode.errors import InputError
from nervecode.monitor.checks import Label, as_array, as_label, as_labels, as_rank


class ClassRanks:
    """How the calibration inputs of each predicted class lie among all of them.

    A p-value says how many calibration scores are at least as high. How many of them are of one
    class then follows from where those lie, so that no score is needed but the calibration's.

    Attributes:
        scores: class -> scores of its calibration inputs, for `Monitor`.

    Args:
        scores: (n,) calibration scores, higher is more surprising.
        predicted: (n,) the classes predicted for them.
        classes: all classes that may be predicted; None takes those of `predicted`.

    Raises:
        InputError: shapes that differ, scores that are not finite, or no classes.
    """

    def __init__(
        self, scores: np.ndarray, predicted: Any, *, classes: Sequence[Label] | None = None
    ) -> None:
        scores = as_array("calibration scores", scores)
        labels = [as_label("predicted", label) for label in as_labels("predicted", predicted)]
        if scores.ndim != 1 or len(scores) != len(labels) or not labels:
            raise InputError(
                f"calibration: found scores of shape {scores.shape} and {len(labels)} classes, "
                "allowed: (n,) of both"
            )
        if not np.isfinite(scores).all():
            raise InputError("calibration scores: found NaN or infinity, allowed: finite numbers")
        self.n = len(scores)
        ordered = np.sort(scores)
        higher = self.n - np.searchsorted(ordered, scores, side="left")  # itself included
        own: dict[Label, list[int]] = {label: [] for label in _known(labels, classes)}
        for i, label in enumerate(labels):
            if label in own:
                own[label].append(i)
        self.scores = {label: scores[at] for label, at in own.items()}
        self._places = {label: np.sort(higher[at]) for label, at in own.items()}

    @property
    def counts(self) -> dict[Label, int]:
        """Class -> its calibration inputs."""
        return {label: len(places) for label, places in self._places.items()}

    def p_value(self, p_value: float, predicted: Label) -> float:
        """The p-value within the predicted class of an input with this one among all.

        Raises:
            InputError: an unknown class, or no p-value of so many calibration inputs.
        """
        places = self._places.get(as_label("predicted", predicted))
        if places is None:
            raise InputError(f"predicted: found {predicted!r}, allowed: {list(self._places)}")
        higher = as_rank("p_value", p_value, self.n) - 1
        return (1 + int(np.searchsorted(places, higher, side="right"))) / (len(places) + 1)


def _known(labels: list[Label], classes: Sequence[Label] | None) -> list[Label]:
    """All classes, those of the labels in the order of their names."""
    if classes is not None:
        return [as_label("classes", label) for label in as_labels("classes", classes)]
    return sorted(set(labels), key=lambda label: (isinstance(label, str), label))
