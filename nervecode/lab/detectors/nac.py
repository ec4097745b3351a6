"""NAC: how seldom the neurons of ID train are in the state that an input puts them in."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import head_of, in_batches, sample
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features

EDGES = 50
SLOPE = 100
FULL = 50
SAMPLES = 1000


def nac(train: Features, model: Classifier) -> Score:
    """How rare each feature's state is in ID train: its value times the gradient of the output.

    Liu et al. 2024, on the input of the head, the one layer of their config for CIFAR-10. With g
    the gradient of KL(uniform, softmax) by the features z, the state of a feature is
    sigmoid(100 z g), its coverage min(n / 50, 1) for the n of 1000 inputs of ID train in the same
    bin; the score is the mean coverage, negated.
    """
    head, interior = head_of(model), _edges()[1:-1]
    bins, width = len(interior) + 1, head.in_features
    first = bins * torch.arange(width)

    def cells(z: Tensor) -> Tensor:  # (N, D) the bin of every feature, in a table of all D
        return first + torch.bucketize(_states(z, head), interior, right=True)

    counts = torch.bincount(
        cells(sample(train.features, SAMPLES)).flatten(), minlength=bins * width
    )
    coverage = (counts / FULL).clamp(max=1)
    return in_batches(lambda z: -coverage[cells(z)].mean(1))


def _states(z: Tensor, head: nn.Linear) -> Tensor:
    """(N, D) in [0, 1], 0.5 for a feature that does not matter."""
    gradient: Tensor = (head(z).softmax(1) - 1 / head.out_features) @ head.weight
    return (SLOPE * z * gradient).sigmoid()


def _edges() -> Tensor:
    """Those of the authors' bins: dense at 0.5, log-spaced to base 1000 on either side."""
    low = torch.linspace(1, math.sqrt(1000), EDGES // 2).log() / math.log(1000)
    low[-1] = 0.5  # exactly, since a feature that is 0 lies here
    return torch.cat([low, 1 - low[:-1].flip(0)])
