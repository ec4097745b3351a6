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

BUFFER = 2**19  # numbers: 4 MiB, which fits a processor's cache
SMALLEST_BUFFER = 256  # vectors
STRIP = 64


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
        _check_finite(vectors)
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


class MomentStream:
    """The moments of a stream of batches, gathered in place: the sum of `ClassMoments.of` of each.

    Vectors wait in a float64 buffer until it is full, so that small batches cost no more than
    large ones. A full buffer is added by the formula of `+` as one product of columns with columns:
    those of the centred vectors, and behind them those of the steps of the means, weighted.

    Args:
        num_groups: K.
        dim: D.
        device: where the vectors are.
    """

    def __init__(self, num_groups: int, dim: int, *, device: torch.device | str = "cpu") -> None:
        self._sum = ClassMoments.empty(num_groups, dim, device=device)  # scatter: upper strips
        rows = max(SMALLEST_BUFFER, BUFFER // max(dim, 1))
        self._rows = self._sum.means.new_empty(rows, dim)
        self._groups = torch.empty(rows, dtype=torch.long, device=device)
        self._columns = self._sum.means.new_empty(dim, 2 * rows)
        self._held = 0

    def add(self, vectors: Tensor, groups: Tensor) -> None:
        """Take in a batch: (B, D) vectors and (B,) group indices below K.

        Raises:
            InputError: as `ClassMoments.of`; vectors that are not finite may be noticed later.
        """
        _check_batch(vectors, groups, len(self._sum.counts))
        vectors = vectors.detach()
        while len(vectors):
            taken = vectors[: len(self._rows) - self._held]
            end = self._held + len(taken)
            self._rows[self._held : end] = taken
            self._groups[self._held : end] = groups[: len(taken)]
            self._held = end
            if end == len(self._rows):
                self._flush()
            vectors, groups = vectors[len(taken) :], groups[len(taken) :]

    @property
    def moments(self) -> ClassMoments:
        """The moments of all vectors so far."""
        self._flush()
        upper = self._sum.scatter.triu()
        return ClassMoments(self._sum.counts, self._sum.means, upper + upper.triu(1).T)

    def merge(self, other: ClassMoments) -> None:
        """Take in the moments of another stream, as if its vectors came after those so far."""
        self._sum = self.moments + other

    def _flush(self) -> None:
        z, groups = self._rows[: self._held], self._groups[: self._held]
        self._held = 0
        known = self._sum
        counts = torch.zeros_like(known.counts).index_add_(0, groups, torch.ones_like(z[:, 0]))
        means = torch.zeros_like(known.means).index_add_(0, groups, z)
        _check_finite(means)  # sums still, and fewer numbers to look at than the vectors
        means /= counts.clamp_min(1).unsqueeze(1)
        share = counts / (known.counts + counts).clamp_min(1)
        step = means - known.means
        weight = (known.counts * share).sqrt()
        moved = weight.nonzero().squeeze(1)  # at most as many groups as there are vectors
        columns = self._columns[:, : len(z) + len(moved)]
        columns[:, : len(z)] = z.sub_(means.index_select(0, groups)).T
        columns[:, len(z) :] = (weight.unsqueeze(1) * step)[moved].T
        _add_upper(known.scatter, columns)
        self._sum = ClassMoments(
            known.counts + counts, known.means + share.unsqueeze(1) * step, known.scatter
        )


def _add_upper(gram: Tensor, columns: Tensor) -> None:
    """Add columns columns' to (D, D) gram in place, in strips right of the diagonal alone."""
    for start in range(0, len(gram), STRIP):
        end = start + STRIP
        gram[start:end, start:].addmm_(columns[start:end], columns[start:].T)


def _check_finite(numbers: Tensor) -> None:
    if not numbers.isfinite().all():
        raise InputError("moments: the vectors hold NaN or infinity; allowed: finite numbers")


def _check_batch(vectors: Tensor, groups: Tensor, num_groups: int) -> None:
    if vectors.ndim != 2 or groups.shape != vectors.shape[:1]:
        raise InputError(
            f"moments: found vectors {tuple(vectors.shape)} and groups {tuple(groups.shape)}, "
            "allowed: (B, D) and (B,)"
        )
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
