"""The registry of detectors: a dict, and the decorator that fills it."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from nervecode.lab.models import Classifier
from nervecode.lab.models.features import Features

Score = Callable[[Features], Tensor]
Fit = Callable[..., Score]
Option = bool | int | float
Reads = Literal["logits", "features", "blocks", "inputs"]


@dataclass(frozen=True)
class Detector:
    """A baseline, called with what the network said of ID train, and the network.

    Attributes:
        fit: (features of ID train, classifier, *, options) -> scorer of the features of a split.
        paper: where its authors describe it.
        reads: the part of a split that it scores. Detectors that read `inputs` run the network
            again, those that read anything else never do.
    """

    fit: Fit
    paper: str
    reads: Reads

    def __call__(self, train: Features, model: Classifier, **options: Option) -> Score:
        """Fit on ID train; returns a scorer: features of a split -> (N,) scores."""
        return self.fit(train, model, **options)

    @property
    def options(self) -> dict[str, Option]:
        """Its hyperparameters that a config may set, with their defaults."""
        found = inspect.signature(self.fit).parameters.values()
        return {one.name: one.default for one in found if one.kind is one.KEYWORD_ONLY}

    @property
    def summary(self) -> str:
        """One line on what it measures."""
        return inspect.getdoc(self.fit).splitlines()[0]  # type: ignore[union-attr]

    @property
    def slow(self) -> bool:
        """Whether it costs further passes over every split, instead of reading cached tensors."""
        return self.reads == "inputs"


DETECTORS: dict[str, Detector] = {}
"""Name -> baseline."""


def detector(reads: Reads, paper: str) -> Callable[[Fit], Fit]:
    """A decorator that enters a function as a detector under its name."""

    def enter(fit: Fit) -> Fit:
        DETECTORS[fit.__name__] = Detector(fit, paper, reads)
        return fit

    return enter


def library() -> Any:
    """pytorch-ood's detectors; imported late, since most commands need no baseline."""
    from pytorch_ood import detector

    # It warns where it chooses a device, and where ViM's subspace is as small as it is told to be.
    logging.getLogger("pytorch_ood").setLevel(logging.ERROR)
    return detector
