"""Centres: several codes per class, by k-means over a sample of the vectors.

Lloyd 1982, https://doi.org/10.1109/TIT.1982.1056489, in the metric of the covariance within
classes, so that it is k-means on whitened vectors.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from nervecode.core.moments import ClassMoments
from nervecode.core.precision import Precision
from nervecode.core.scatter import dtype_of

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
        self._counts = torch.zeros(num_classes, dtype=torch.long, device="cpu")
        self._rows: list[Tensor] = []
        self._classes: list[Tensor] = []

    def add(self, vectors: Tensor, classes: Tensor) -> None:
        """Keep those of (B, D) vectors whose (B,) classes have too few yet."""
        counts = self._counts = self._counts.to(vectors.device)
        if counts.amin() >= self.per_class:
            return
        sizes = torch.bincount(classes, minlength=len(counts))
        kept = counts[classes] + _place(classes, sizes) < self.per_class
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
    rows, place = _by_class(vectors.to(dtype_of(vectors.shape[1])), classes, sizes)
    nearest = k_means(rows, sizes, numbers, metric)[classes, place]
    used, codes = (classes * codes_per_class + nearest).unique(return_inverse=True)
    classes_of = used // codes_per_class
    if len(used) == (sizes > 0).sum():
        return None
    columns = moments.scatter.shape[1]
    sample = ClassMoments.of(vectors, codes, len(used), sketch=columns)
    weights = (moments.counts / sizes)[classes_of] * (len(vectors) / moments.counts.sum())
    return replace(sample, counts=sample.counts * weights)


def _place(classes: Tensor, sizes: Tensor) -> Tensor:
    """(B,) of each vector, how many of its class come before it."""
    order = classes.argsort(stable=True)
    place = torch.empty_like(order)
    first = (sizes.cumsum(0) - sizes)[classes[order]]
    place[order] = torch.arange(len(order), device=order.device) - first
    return place


def _by_class(vectors: Tensor, classes: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """(K, N, D) the vectors of each class in their order, then zeros; (B,) the place of each."""
    place = _place(classes, sizes)
    rows = vectors.new_zeros(len(sizes), int(sizes.amax()), vectors.shape[1])
    rows[classes, place] = vectors
    return rows, place


def k_means(rows: Tensor, sizes: Tensor, numbers: Tensor, metric: Precision) -> Tensor:
    """(K, N) the cluster of each of the (K, N, D) vectors of K classes, all classes at once.

    Lloyd's steps from the first vectors, in the metric of a precision; an empty cluster stays
    where it is.

    Args:
        rows: the vectors of each class, and zeros behind them.
        sizes: (K,) vectors of each class.
        numbers: (K,) clusters of each class; what is not a vector or a cluster is not counted.
        metric: the precision.
    """
    index = torch.arange(max(rows.shape[1], int(numbers.amax())), device=rows.device)
    real = (index[: rows.shape[1]] < sizes.unsqueeze(1)).to(rows.dtype).unsqueeze(2)  # (K, N, 1)
    middle = rows[:, : int(numbers.amax())]  # (K, C, D)
    absent = index[: middle.shape[1]] >= numbers.unsqueeze(1)  # (K, C)
    nearest = rows.new_zeros(rows.shape[:2], dtype=torch.long)
    for _ in range(STEPS):
        tilt = metric.times(middle)
        offset = (0.5 * (tilt * middle).sum(2)).masked_fill(absent, torch.inf)
        nearest = (rows @ tilt.mT - offset.unsqueeze(1)).argmax(2)
        member = torch.zeros_like(real).expand(-1, -1, middle.shape[1])
        member = member.scatter(2, nearest.unsqueeze(2), real)  # (K, N, C)
        counts = member.sum(1).unsqueeze(2)
        middle = torch.where(counts > 0, member.mT @ rows / counts.clamp_min(1), middle)
    return nearest
