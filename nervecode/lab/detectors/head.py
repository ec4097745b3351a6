"""Detectors that read features through the head: shaped, aligned or guided."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import head_of, in_batches, library
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features


def react(train: Features, model: Classifier) -> Score:
    """Energy after features are clipped at a percentile of ID train.

    Sun, Guo and Li 2021, on the input of the head as theirs. 90th percentile.
    """
    detector = library().ReAct(None, head_of(model), percentile=0.9)
    detector.fit_feature_maps(train.features, train.labels)
    return lambda split: detector.predict_feature_maps(split.features)


def ash(train: Features, model: Classifier) -> Score:
    """Energy after each input's smaller features are cut and the others are scaled up (ASH-S).

    Djurisic et al. 2023, on pooled features as their ResNet. 65 % are cut, pytorch-ood's default:
    their 90 % leave next to nothing of a narrow network.
    """
    detector = library().ASH(None, _on_maps(model), variant="ash-s", percentile=0.65)
    return lambda split: detector.predict_feature_maps(_as_maps(split))


def scale(train: Features, model: Classifier) -> Score:
    """Energy after each input's features are scaled by how few of them carry its sum.

    Xu et al. 2024, on pooled features as theirs. Percentile 65, pytorch-ood's default, for the
    reason given for `ash`; theirs is 85.
    """
    detector = library().SCALE(None, _on_maps(model), percentile=0.65)
    return lambda split: detector.predict_feature_maps(_as_maps(split))


def _as_maps(split: Features) -> Tensor:
    return split.features[:, :, None, None]  # (N, D) as maps of one place


def _on_maps(model: Classifier) -> Callable[[Tensor], Tensor]:
    head = head_of(model)
    return lambda maps: head(maps.flatten(1))


def she(train: Features, model: Classifier) -> Score:
    """Product with the mean of the features that ID train has in the predicted class, negated.

    Zhang et al. 2023. No hyperparameter.
    """
    detector = library().SHE(None, head_of(model))
    detector.fit_features(train.features, train.labels)
    return lambda split: detector.predict_features(split.features)


def nci(train: Features, model: Classifier) -> Score:
    """Product of the centred, unit-length features with the predicted class's weights, negated.

    Liu and Qin 2025. The weight α of their term for the norm is chosen on outliers, which no split
    here may be used for: it is pytorch-ood's 0.
    """
    detector = library().NCI(None, head_of(model), alpha=0.0)
    detector.fit_features(train.features)
    return lambda split: detector.predict_features(split.features)


def fdbd(train: Features, model: Classifier) -> Score:
    """Mean distance to the boundaries of the predicted class, by that to ID train's mean, negated.

    Liu and Qin 2024. No hyperparameter.
    """
    detector = library().fDBD(None, head_of(model))
    detector.fit_features(train.features)
    return lambda split: detector.predict_features(split.features)


def nnguide(train: Features, model: Classifier) -> Score:
    """Energy times the similarity to neighbours in ID train, each scaled by its own energy.

    Park, Jung and Teoh 2023. k = 10, as theirs; the bank is all of ID train.
    """
    detector = library().NNGuide(None, head_of(model), k=10)
    detector.fit_features(train.features, train.labels)
    return in_batches(detector.predict_features)
