"""Detectors that read logits alone, and fit nothing."""

from __future__ import annotations

from typing import Any

from nervecode.errors import InputError
from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import library
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features


def _on_logits(detector: Any) -> Score:
    return lambda split: detector.predict_logits(split.logits)


def msp(train: Features, model: Classifier) -> Score:
    """The largest softmax probability, negated.

    Hendrycks and Gimpel 2017. No hyperparameter.
    """
    return _on_logits(library().MaxSoftmax(None))


def maxlogit(train: Features, model: Classifier) -> Score:
    """The largest logit, negated.

    Hendrycks et al. 2022. No hyperparameter.
    """
    return _on_logits(library().MaxLogit(None))


def energy(train: Features, model: Classifier) -> Score:
    """The log of the sum of the exponentiated logits, negated.

    Liu et al. 2020. Temperature 1.
    """
    return _on_logits(library().EnergyBased(None))


def entropy(train: Features, model: Classifier) -> Score:
    """The entropy of the softmax probabilities.

    Chan, Rottmann and Gottschalk 2021. No hyperparameter.
    """
    return _on_logits(library().Entropy(None))


def gen(train: Features, model: Classifier, *, gamma: float, classes: int) -> Score:
    """A generalised entropy of the softmax probabilities, p^γ (1 - p)^γ.

    Liu et al. 2023. γ = 0.1, over the 100 likeliest classes or as many as there are, as theirs.
    """
    if classes < 1:  # it would leave out as many
        raise InputError(f"classes: found {classes}, allowed: 1 or more")
    return _on_logits(library().GEN(None, gamma=gamma, M=classes))
