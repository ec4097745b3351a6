"""The scorer: a calibrated model on inputs that it has not seen, a batch at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.samples import Shape
from nervecode.lab.inference.scored import Scored
from nervecode.lab.inference.source import Inputs, Source, readable
from nervecode.lab.machine.progress import Progress


class Scorer(ABC):
    """A calibrated model, wherever it is kept.

    Attributes:
        shape: of one input.
        resize: what the shorter side of a picture is before it is cropped, where more is cropped
            than a square needs.
        num_samples: n, the number of calibration inputs.
        smallest_alpha: below it some inputs could not be flagged, whatever their surprise.
        identity: plain values that tell this model from others.
        encoder: of the columns of a table, where the model was trained on one.
        classes: the names of the classes 0, 1, …, where these are not their own numbers.
        gate_passed: whether its run passed the accuracy gate; None where that is not known.
        remarks: what is to be told of the run.
        class_sizes: class -> calibration inputs behind its own p-values; empty unless by class.
    """

    shape: Shape
    resize: int | None = None
    num_samples: int
    smallest_alpha: float
    identity: dict[str, Any]
    encoder: TableEncoder | None = None
    classes: tuple[str, ...] = ()
    gate_passed: bool | None = None
    remarks: tuple[str, ...] = ()
    class_sizes: Mapping[int, int] = MappingProxyType({})

    @property
    def sizes(self) -> tuple[int, ...]:
        """How many calibration inputs p-values refer to: all, and those of each class."""
        return self.num_samples, *self.class_sizes.values()

    def group_by_class(self) -> None:
        """Give p-values within the predicted class from now on.

        Raises:
            InputError: it cannot.
        """
        raise InputError("--by-class: found a graph, allowed: a run, which knows the classes")

    @abstractmethod
    def __call__(self, inputs: Inputs) -> Scored:
        """Score a batch, without flags; what it says of an input depends on no other."""

    def check(self, source: Source) -> None:  # noqa: B027 - most refuse none
        """Refuse inputs of a kind that the model was not made for.

        Raises:
            InputError: it was not.
        """


def other_names(classes: Sequence[int | str]) -> tuple[str, ...]:
    """The names of the classes 0, 1, …; none where all are these very numbers."""
    numbered = list(classes) == list(range(len(classes)))
    return () if numbered else tuple(map(str, classes))


def score_source(
    scorer: Scorer, source: Source, units: range, *, progress: Progress
) -> Iterator[Scored]:
    """Score a range of units of a source, in constant memory; unreadable inputs are left out."""
    for batch in readable(source, units, title="score", progress=progress):
        scored = scorer(batch)
        for name in scored.ids[~np.isfinite(scored.surprise)]:
            progress.tell(f"most surprising: {name} (NaN or infinity in a layer)")
        yield scored
