"""Centres: several codes per class, by k-means over a sample of the vectors.

Lloyd 1982, https://doi.org/10.1109/TIT.1982.1056489, in the metric of the covariance within
classes, so that it is k-means on whitened vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.core.moments import ClassMoments
from nervecode.core.precision import Precision

SAMPLE = 4096  # vectors that a reservoir keeps, over all classes
LEAST = 8  # vectors of the sample to a centre, on average
STEPS = 10


class Reservoir:
    """The first vectors of each of K classes, `SAMPLE` / K at most, in their order.

    None where that is too few for two codes. Reservoirs of shards that are merged in order hold
    what one over all of them would. The data should come shuffled, or at least not sorted within
    a class.
    """

    def __init__(self, num_classes: int) -> None:
        per_class = SAMPLE // num_classes
        self.per_class = per_class if per_class >= 2 * LEAST else 0
        self._counts = torch.zeros(num_classes, dtype=torch.long)
        self._rows: list[Tensor] = []
        self._classes: list[Tensor] = []

    def add(self, vectors: Tensor, classes: Tensor) -> None:
        """Keep those of (B, D) vectors whose (B,) classes have too few yet."""
        counts = self._counts = self._counts.to(vectors.device)
        if counts.amin() >= self.per_class:
            return
        sizes = torch.bincount(classes, minlength=len(counts))
        order = classes.argsort(stable=True)
        place = torch.empty_like(order)  # of each vector among those of its class in this batch
        first = (sizes.cumsum(0) - sizes)[classes[order]]
        place[order] = torch.arange(len(order), device=order.device) - first
        kept = counts[classes] + place < self.per_class
        self._rows.append(vectors[kept].detach())
        self._classes.append(classes[kept])
        self._counts = counts + sizes

    def held(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) vectors and (N,) their classes; of the kind of `like`, (?, D), even if empty."""
        if not self._rows:
            return like[:0], torch.zeros(0, dtype=torch.long, device=like.device)
        return torch.cat(self._rows), torch.cat(self._classes)


def several_codes(
    moments: ClassMoments, reservoir: Reservoir, codes_per_class: int, metric: Precision
) -> ClassMoments | None:
    """Moments per code instead of per class, from the sample alone; None if no class has two.

    Each class has as many codes as its part of the sample allows, and in sum the share of the
    inputs that `moments` has of it.

    Args:
        moments: per class, of all inputs.
        reservoir: a sample of the same inputs.
        codes_per_class: at most.
        metric: the precision within classes.
    """
    vectors, classes = reservoir.held(moments.means)
    sizes = torch.bincount(classes, minlength=len(moments.counts))
    numbers = (sizes // LEAST).clamp(1, codes_per_class)
    if numbers.amax() < 2:
        return None
    codes = torch.zeros_like(classes)
    weights: list[Tensor] = []
    for k in (sizes > 0).nonzero().squeeze(1).tolist():
        own = (classes == k).nonzero().squeeze(1)
        nearest = k_means(vectors[own].double(), int(numbers[k]), metric)
        used, nearest = nearest.unique(return_inverse=True)
        codes[own] = nearest + sum(map(len, weights))
        weights.append((moments.counts[k] / sizes[k]).expand(len(used)))
    if len(weight := torch.cat(weights)) == len(weights):
        return None
    found = ClassMoments.of(vectors, codes, len(weight))
    counts = found.counts * weight * (len(vectors) / moments.counts.sum())
    return ClassMoments(counts, found.means, found.scatter)


def k_means(vectors: Tensor, number: int, metric: Precision) -> Tensor:
    """(N,) the cluster of each of (N, D) vectors, below `number`.

    Lloyd's steps from the first vectors, in the metric of a precision; an empty cluster stays
    where it is.
    """
    middle = vectors[:number]
    nearest = torch.zeros(len(vectors), dtype=torch.long, device=vectors.device)
    for _ in range(STEPS if number > 1 else 0):
        tilt = metric.times(middle)
        nearest = (vectors @ tilt.T - 0.5 * (tilt * middle).sum(1)).argmax(1)
        counts = torch.bincount(nearest, minlength=number).to(middle).unsqueeze(1)
        sums = torch.zeros_like(middle).index_add_(0, nearest, vectors)
        middle = torch.where(counts > 0, sums / counts.clamp_min(1), middle)
    return nearest
