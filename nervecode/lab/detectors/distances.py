"""Detectors that measure how far features lie from those of ID train."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from nervecode.lab.data.samples import EVAL_BATCH
from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import head_of, library
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features

PNML_CUT = 1e-15
NEIGHBOURS = 500  # inputs of ID train to one neighbour of `knn`
MOST_NEIGHBOURS = 50  # the authors' for ten classes


def _on_features(detector: Any, train: Features) -> Score:
    detector.fit_features(train.features, train.labels)
    return lambda split: detector.predict_features(split.features)


def _in_double(detector: Any, train: Features) -> Score:
    """As above, in float64 throughout.

    pytorch-ood inverts covariances in the default dtype. In float32 the inverse is noise wherever
    features have directions without variance: dead channels, or the sum behind a LayerNorm.
    """
    with _default_double():
        detector.fit_features(train.features.double(), train.labels)
    return lambda split: detector.predict_features(split.features.double())


@contextmanager
def _default_double() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def mahalanobis(train: Features, model: Classifier, *, shrinkage: float) -> Score:
    """Squared Mahalanobis distance to the nearest class centre, one covariance for all classes.

    Lee et al. 2018, on the input of the head, without their perturbation of inputs. With
    shrinkage s, the covariance is (1 - s) S + s tr(S) / D.
    """
    detector = library().Mahalanobis(None)
    score = _in_double(detector, train)
    if shrinkage:
        cov = detector.cov
        ridge = cov.trace() / len(cov) * torch.eye(len(cov)).to(cov)
        detector.precision = torch.linalg.inv((1 - shrinkage) * cov + shrinkage * ridge)
    return score


def mahalanobis_pp(train: Features, model: Classifier, *, shrinkage: float) -> Score:
    """Mahalanobis distance of features at unit length to the nearest class centre.

    Mueller and Hein 2025, Mahalanobis++: centres and covariance are those of z / |z|, which scores
    see too. Shrinkage as in `mahalanobis`.
    """
    score = mahalanobis(_at_unit_length(train), model, shrinkage=shrinkage)
    return lambda split: score(_at_unit_length(split))


def _at_unit_length(split: Features) -> Features:
    blocks = tuple(map(_unit, split.blocks))
    return replace(split, features=_unit(split.features), blocks=blocks)


def _unit(z: Tensor) -> Tensor:
    return normalize(z.double(), dim=1)


def multi_mahalanobis(train: Features, model: Classifier) -> Score:
    """Mahalanobis distances of the channel means of every block, added up.

    Lee et al. 2018. They weigh layers by a regression on outliers, which no split here may be used
    for; pytorch-ood's weights, 1 each, take its place.
    """
    detector = library().MultiMahalanobis(list(train.blocks))  # it reads but the number of modules
    with _default_double():
        detector.fit_structured([block.double() for block in train.blocks], train.labels)

    def score(split: Features) -> Tensor:
        # In batches: it forms a matrix of all pairs of inputs, to read its diagonal.
        parts = zip(*[block.double().split(EVAL_BATCH) for block in split.blocks], strict=True)
        return torch.cat([detector.predict_structured(list(part)) for part in parts])

    return score


def multi_mahalanobis_pp(train: Features, model: Classifier) -> Score:
    """Mahalanobis distances of the channel means of every block at unit length, added up.

    Lee et al. 2018 with vectors as Mueller and Hein 2025 take them. No hyperparameter.
    """
    score = multi_mahalanobis(_at_unit_length(train), model)
    return lambda split: score(_at_unit_length(split))


def rmd(train: Features, model: Classifier) -> Score:
    """Mahalanobis distance to the nearest class, less that to all of ID train.

    Ren et al. 2021. No hyperparameter.
    """
    return _in_double(library().RMD(None), train)


def rmd_pp(train: Features, model: Classifier) -> Score:
    """Mahalanobis distance to the nearest class less that to all, of features at unit length.

    Ren et al. 2021 with the features of Mueller and Hein 2025, their rMaha++. No hyperparameter.
    """
    score = rmd(_at_unit_length(train), model)
    return lambda split: score(_at_unit_length(split))


def knn(train: Features, model: Classifier, *, k: int, normalise: bool) -> Score:
    """Distance to the k-th nearest neighbour in ID train, features scaled to unit length.

    Sun et al. 2022. k = 0 takes one in 500 inputs of ID train, from 1 to 50: theirs are one in
    1,000, 250 and 1,281 (50, 200 and 1,000 on CIFAR-10, CIFAR-100 and ImageNet).
    """
    k = k or min(max(1, len(train.labels) // NEIGHBOURS), MOST_NEIGHBOURS)
    return _on_features(library().KNN(None, k=k, normalize=normalise), train)


def gmm(train: Features, model: Classifier) -> Score:
    """Negative log-likelihood of Gaussians, one per class, each with a covariance of its own.

    A classical baseline without a paper of its own. Ridge 1e-6, pytorch-ood's.
    """
    return _on_features(library().GMM(None), train)


def gmm_pp(train: Features, model: Classifier) -> Score:
    """Negative log-likelihood of Gaussians, one per class, of features at unit length.

    `gmm` with features as Mueller and Hein 2025 take them. Ridge 1e-6, pytorch-ood's.
    """
    score = gmm(_at_unit_length(train), model)
    return lambda split: score(_at_unit_length(split))


def pnml(train: Features, model: Classifier) -> Score:
    """Regret of the predictive normalised maximum likelihood of the head.

    Bibas, Feder and Hassner 2021, their theorem 1 for features at unit length: with U those of ID
    train, q = z' (U'U)^+ z, g = q / (1 + q) and p the softmax of the head, the score is
    log sum_k [p_k / (p_k + (1 - p_k) p_k^g)], by log K. Singular values of U'U below 1e-15 of the
    largest are cut, as theirs. No hyperparameter.
    """
    head = head_of(model).double()
    _, root = torch.linalg.qr(_unit(train.features), mode="r")  # root' root = U'U
    whitener = torch.linalg.pinv(root, rtol=math.sqrt(PNML_CUT))

    def score(split: Features) -> Tensor:
        z = _unit(split.features)
        share: Tensor = head(z).softmax(1)
        power = share.pow(1 / (1 + (z @ whitener).square().sum(1, keepdim=True)))  # p^(1 - g)
        return (power / (power + 1 - share)).sum(1).log() / math.log(head.out_features)

    return score


def vim(train: Features, model: Classifier) -> Score:
    """Norm of the features outside ID train's principal subspace, as a logit, less the energy.

    Wang et al. 2022. A subspace of 1000 dimensions from a width of 1500 and of 512 from 768, as
    theirs; of half the width below, where theirs does not fit.
    """
    return _on_features(_vim(train, model), train)


def residual(train: Features, model: Classifier, *, axes: int) -> Score:
    """Norm of the features outside ID train's principal subspace.

    The residual of Wang et al. 2022, with the subspace that ViM fits: of as many axes, or as many
    as theirs where that is 0.
    """
    detector = _vim(train, model, axes=axes)
    detector.fit_features(train.features, train.labels)
    return lambda split: ((split.features - detector.u) @ detector.principal_subspace).norm(dim=1)


def _vim(train: Features, model: Classifier, *, axes: int = 0) -> Any:
    width = train.features.shape[1]
    dim = 1000 if width >= 1500 else 512 if width >= 768 else width // 2
    head = head_of(model)
    return library().ViM(None, d=axes or dim, w=head.weight, b=head.bias)
