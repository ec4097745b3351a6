"""Baselines by name, from pytorch-ood, on cached logits and features.

Every detector scores higher = more OOD. Hyperparameters are the authors' defaults.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from nervecode.lab.data.registry import register
from nervecode.lab.features import Features

Score = Callable[[Features], Tensor]
Fit = Callable[[Features, nn.Linear], Score]

DETECTORS: dict[str, Fit] = {}
"""Name -> (features of ID train, the classifier's head) -> scorer of features."""


def _logits(name: str, make: Callable[[Any], Any]) -> None:
    """Register a detector that reads logits alone."""

    def fit(train: Features, head: nn.Linear) -> Score:
        detector = make(_pytorch_ood())
        return lambda split: detector.predict_logits(split.logits)

    DETECTORS[name] = fit


_logits("msp", lambda lib: lib.MaxSoftmax(None))
_logits("maxlogit", lambda lib: lib.MaxLogit(None))
_logits("energy", lambda lib: lib.EnergyBased(None))
_logits("entropy", lambda lib: lib.Entropy(None))
_logits("gen", lambda lib: lib.GEN(None))


def _features(name: str, make: Callable[[Any, Features, nn.Linear], Any]) -> None:
    """Register a detector that is fitted on the features of ID train."""

    def fit(train: Features, head: nn.Linear) -> Score:
        detector = make(_pytorch_ood(), train, head)
        detector.fit_features(train.features, train.labels)
        return lambda split: detector.predict_features(split.features)

    DETECTORS[name] = fit


_features("mahalanobis", lambda lib, train, head: lib.Mahalanobis(None))
_features("rmd", lambda lib, train, head: lib.RMD(None))
_features("knn", lambda lib, train, head: lib.KNN(None, k=50, normalize=True))
_features("gmm", lambda lib, train, head: lib.GMM(None))
_features("pnml", lambda lib, train, head: lib.PNML(None, head))


@register(DETECTORS)
def vim(train: Features, head: nn.Linear) -> Score:
    """ViM, with the subspace sizes of its authors: 1000, 512, or half the width below 768."""
    width = train.features.shape[1]
    dim = 1000 if width >= 1500 else 512 if width >= 768 else width // 2
    logging.getLogger("pytorch_ood").setLevel(logging.ERROR)
    detector = _pytorch_ood().ViM(None, d=dim, w=head.weight.detach(), b=head.bias.detach())
    detector.fit_features(train.features, train.labels)
    return lambda split: detector.predict_features(split.features)


def _pytorch_ood() -> Any:
    # Imported late: it takes seconds, and most commands need no baseline.
    from pytorch_ood import detector

    return detector
