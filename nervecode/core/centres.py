"""Centres: several per group, by Lloyd's algorithm in streaming passes.

Lloyd 1982, https://doi.org/10.1109/TIT.1982.1056489, in the metric of the covariance within groups,
so that it is k-means on whitened vectors. Each pass is one set of mergeable moments.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.core.moments import ClassMoments
from nervecode.core.precision import Precision

PASSES = 8


class Centres:
    """J centres in each of K groups.

    Args:
        first: (K, J, D) where they begin, such as vectors of the group itself.
        precision: the metric.
    """

    def __init__(self, first: Tensor, precision: Precision) -> None:
        self.groups, self.per_group, dim = first.shape
        self.values = first.reshape(-1, dim).double()
        self.precision = precision

    def nearest(self, vectors: Tensor, groups: Tensor) -> Tensor:
        """(B,) the index below K J of the nearest centre within each vector's own group."""
        tilt = self.precision.times(self.values)  # (K J, D)
        offsets = 0.5 * (tilt * self.values).sum(1)
        gain = (vectors.double() @ tilt.T - offsets).view(-1, self.groups, self.per_group)
        own = gain[torch.arange(len(vectors), device=vectors.device), groups]  # (B, J)
        return groups * self.per_group + own.argmax(1)

    def move(self, moments: ClassMoments) -> None:
        """Put each centre on the mean of its vectors; one that has none stays where it is."""
        empty = (moments.counts == 0).unsqueeze(1)
        self.values = torch.where(empty, self.values, moments.means)


class Reservoir:
    """The first vectors of each group, J at most: where k-means begins."""

    def __init__(self, groups: int, per_group: int) -> None:
        self.kept: list[list[Tensor]] = [[] for _ in range(groups)]
        self.per_group = per_group

    def add(self, vectors: Tensor, groups: Tensor) -> None:
        """Keep vectors of groups that have too few yet."""
        for group, kept in enumerate(self.kept):
            if len(kept) < self.per_group:
                kept += list(vectors[groups == group][: self.per_group - len(kept)].double())

    def first(self, means: Tensor) -> Tensor:
        """(K, J, D); a group with fewer vectors repeats its mean, and the copies stay empty."""
        rows = [
            torch.stack([*kept, *[mean] * (self.per_group - len(kept))])
            for kept, mean in zip(self.kept, means, strict=True)
        ]
        return torch.stack(rows)

    def held(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D) vectors and (N,) their groups; of the kind of `like`, (?, D), even if empty."""
        groups = [group for group, kept in enumerate(self.kept) for _ in kept]
        vectors = [vector for kept in self.kept for vector in kept]
        stacked = torch.stack(vectors) if vectors else like[:0]
        return stacked, torch.tensor(groups, dtype=torch.long, device=like.device)
