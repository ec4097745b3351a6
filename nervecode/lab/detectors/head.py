"""Detectors that read features through the head: shaped, aligned or guided."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import head_of, in_batches, library
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features

WIDE = 512  # features, from which on the authors' percentiles leave enough of them


def react(train: Features, model: Classifier, *, percentile: float) -> Score:
    """Energy after features are clipped at a percentile of ID train.

    Sun, Guo and Li 2021, on the input of the head as theirs. 90th percentile.
    """
    detector = library().ReAct(None, head_of(model), percentile=_share(percentile))
    detector.fit_feature_maps(train.features, train.labels)
    return lambda split: detector.predict_feature_maps(split.features)


def ash(train: Features, model: Classifier, *, percentile: float) -> Score:
    """Energy after each input's smaller features are cut and the others are scaled up (ASH-S).

    Djurisic et al. 2023, on pooled features as their ResNet. 90 % are cut, as theirs, from 512
    features on; of fewer 65 %, pytorch-ood's default: 90 % leave next to nothing of them.
    """
    cut = _cut(percentile, train, theirs=90)
    detector = library().ASH(None, _on_maps(model), variant="ash-s", percentile=cut)
    return lambda split: detector.predict_feature_maps(_as_maps(split))


def scale(train: Features, model: Classifier, *, percentile: float) -> Score:
    """Energy after each input's features are scaled by how few of them carry its sum.

    Xu et al. 2024, on pooled features as theirs. Percentile 85, as theirs, from 512 features on;
    of fewer 65, pytorch-ood's default, for the reason given for `ash`.
    """
    detector = library().SCALE(None, _on_maps(model), percentile=_cut(percentile, train, theirs=85))
    return lambda split: detector.predict_feature_maps(_as_maps(split))


def _cut(percentile: float, train: Features, *, theirs: float) -> float:
    """The share of the features that is asked for; where that is 0, by their number."""
    by_width = theirs if train.features.shape[1] >= WIDE else 65
    return _share(percentile or by_width)


def _share(percentile: float) -> float:
    if not 0 < percentile < 100:
        raise InputError(f"percentile: found {percentile}, allowed: between 0 and 100")
    return percentile / 100


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


def nci(train: Features, model: Classifier, *, alpha: float) -> Score:
    """Product of the centred, unit-length features with the predicted class's weights, negated.

    Liu and Qin 2025. The weight α of their term for the norm is 0.0001, that of their config.
    """
    if alpha < 0:  # it would count as 0
        raise InputError(f"alpha: found {alpha}, allowed: 0 or more")
    detector = library().NCI(None, head_of(model), alpha=alpha)
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
