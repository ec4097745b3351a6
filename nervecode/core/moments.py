"""Streaming moments that merge by addition, and shrinkage that needs nothing else.

Counts, means and one centred scatter matrix, in float64, updated with Chan, Golub and LeVeque's
pairwise formula (https://doi.org/10.1080/00031305.1983.10483115): one pass over the data, memory
O(K D + D^2) whatever the number of inputs, and the same answer in any order and partition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.errors import InputError


@dataclass(frozen=True)
class ClassMoments:
    """Moments of N vectors in R^D in K groups (classes).

    Attributes:
        counts: (K,) inputs per group.
        means: (K, D) mean of each group, 0 where it is empty.
        scatter: (D, D) sum over all groups of (z - mean)(z - mean)', the within-group scatter.
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor

    @classmethod
    def empty(
        cls, num_groups: int, dim: int, *, device: torch.device | str = "cpu"
    ) -> ClassMoments:
        """The moments of no data: the neutral element of `+`."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        return cls(
            zero.new_zeros(num_groups),
            zero.new_zeros(num_groups, dim),
            zero.new_zeros(dim, dim),
        )

    @classmethod
    def of(cls, vectors: Tensor, groups: Tensor, num_groups: int) -> ClassMoments:
        """The moments of one batch: (B, D) vectors and (B,) group indices below `num_groups`.

        Raises:
            InputError: shapes that do not fit, groups out of range, or vectors that are not finite.
        """
        _check_batch(vectors, groups, num_groups)
        z = vectors.detach().double()
        groups = groups.to(z.device, torch.long)
        moments = cls.empty(num_groups, z.shape[1], device=z.device)
        counts = moments.counts.index_add(0, groups, torch.ones_like(groups, dtype=z.dtype))
        sums = moments.means.index_add(0, groups, z)
        means = sums / counts.clamp_min(1).unsqueeze(1)
        centred = z - means[groups]
        return cls(counts, means, centred.T @ centred)

    def __add__(self, other: ClassMoments) -> ClassMoments:
        """The moments of both data sets together."""
        if self.means.shape != other.means.shape:
            raise InputError(
                f"moments: cannot add (K, D) = {tuple(other.means.shape)} "
                f"to {tuple(self.means.shape)}"
            )
        counts = self.counts + other.counts
        share = other.counts / counts.clamp_min(1)
        step = other.means - self.means
        means = self.means + share.unsqueeze(1) * step
        weight = (self.counts * share).unsqueeze(1)
        return ClassMoments(counts, means, self.scatter + other.scatter + (weight * step).T @ step)

    @property
    def total(self) -> int:
        """N, the number of inputs."""
        return int(self.counts.sum())

    @property
    def mean(self) -> Tensor:
        """(D,) the mean of all inputs."""
        return self.counts @ self.means / self.counts.sum()

    @property
    def within(self) -> Tensor:
        """(D, D) the covariance within groups (divided by N)."""
        return self.scatter / self.counts.sum()

    @property
    def between(self) -> Tensor:
        """(D, D) the covariance of the group means around the overall mean."""
        centred = self.means - self.mean
        return (self.counts.unsqueeze(1) * centred).T @ centred / self.counts.sum()


def _check_batch(vectors: Tensor, groups: Tensor, num_groups: int) -> None:
    if vectors.ndim != 2 or groups.shape != vectors.shape[:1]:
        raise InputError(
            f"moments: found vectors {tuple(vectors.shape)} and groups {tuple(groups.shape)}, "
            "allowed: (B, D) and (B,)"
        )
    if not vectors.isfinite().all():
        raise InputError("moments: the vectors hold NaN or infinity; allowed: finite numbers")
    if groups.is_floating_point():
        raise InputError(f"labels: found {groups.dtype}, allowed: whole numbers")
    if len(groups) and (int(groups.min()) < 0 or int(groups.max()) >= num_groups):
        raise InputError(
            f"labels: found {int(groups.min())} to {int(groups.max())}, "
            f"allowed: 0 to {num_groups - 1}"
        )


def oas(covariance: Tensor, samples: int) -> Tensor:
    """Covariance (D, D) shrunk to a multiple of the identity, Oracle Approximating Shrinkage.

    Needs nothing beyond the covariance, so it streams exactly. Chen, Wiesel, Eldar and Hero 2010,
    https://arxiv.org/abs/0907.4698, in the form that scikit-learn computes.
    """
    dim = covariance.shape[0]
    mu = covariance.trace() / dim
    alpha = covariance.square().mean()
    denominator = (samples + 1) * (alpha - mu.square() / dim)
    weight = (alpha + mu.square()) / denominator.clamp_min(torch.finfo(mu.dtype).tiny)
    weight = weight.clamp_max(1)
    return (1 - weight) * covariance + weight * mu * torch.eye(dim).to(covariance)
