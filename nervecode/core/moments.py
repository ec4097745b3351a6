"""Streaming moments that merge by addition.

Counts, means and one centred scatter matrix, in float64, updated with Chan, Golub and LeVeque's
pairwise formula (https://doi.org/10.1080/00031305.1983.10483115): one pass over the data, memory
O(K D + D S) whatever the number of inputs, with S = D or, for wide vectors, the columns of a sketch
(`core.scatter`), and the same answer in any order and partition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.core.scatter import SKETCH, add_product, columns, dtype_of, product, symmetric
from nervecode.errors import InputError

BUFFER = 2**19  # numbers: 4 MiB at most, which fits a processor's cache
SMALLEST_BUFFER = 256  # vectors


@dataclass(frozen=True)
class ClassMoments:
    """Moments of N vectors in R^D in K groups (classes).

    Attributes:
        counts: (K,) inputs per group.
        means: (K, D) mean of each group, 0 where it is empty.
        scatter: (D, D) sum over all groups of (z - mean)(z - mean)', the within-group scatter; of
            wide vectors its (D, S) sketch, see `nervecode.core.scatter`.
        power: () the trace of the scatter.
    """

    counts: Tensor
    means: Tensor
    scatter: Tensor
    power: Tensor

    @classmethod
    def empty(
        cls, num_groups: int, dim: int, *, sketch: int = SKETCH, device: torch.device | str = "cpu"
    ) -> ClassMoments:
        """The moments of no data: the neutral element of `+`.

        Args:
            num_groups: K.
            dim: D.
            sketch: S of a scatter that is more than twice as wide.
            device: where the vectors are.
        """
        zero = torch.zeros((), dtype=torch.float64, device=device)
        return cls(
            zero.new_zeros(num_groups),
            zero.new_zeros(num_groups, dim),
            zero.new_zeros(dim, columns(dim, sketch)),
            zero,
        )

    @classmethod
    def of(
        cls, vectors: Tensor, groups: Tensor, num_groups: int, *, sketch: int = SKETCH
    ) -> ClassMoments:
        """The moments of one batch: (B, D) vectors and (B,) group indices below `num_groups`.

        Raises:
            InputError: shapes that do not fit, groups out of range, or vectors that are not finite.
        """
        _check_batch(vectors, groups, num_groups)
        stream = MomentStream(num_groups, vectors.shape[1], sketch=sketch, device=vectors.device)
        stream.add(vectors, groups.to(vectors.device))
        return stream.moments

    def __add__(self, other: ClassMoments) -> ClassMoments:
        """The moments of both data sets together."""
        for one, two in ((self.means, other.means), (self.scatter, other.scatter)):
            if one.shape != two.shape:
                raise InputError(
                    f"moments: cannot add {tuple(two.shape)} to {tuple(one.shape)}; "
                    "allowed: as many groups, dimensions and columns"
                )
        counts = self.counts + other.counts
        share = other.counts / counts.clamp_min(1)
        step = other.means - self.means
        rows = (self.counts * share).sqrt().unsqueeze(1) * step
        return ClassMoments(
            counts,
            self.means + share.unsqueeze(1) * step,
            self.scatter + other.scatter + product(rows, self.scatter.shape[1]),
            self.power + other.power + rows.square().sum(),
        )

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
        """(D, D) the covariance within groups (divided by N), or its (D, S) sketch."""
        return self.scatter / self.counts.sum()

    @property
    def about_zero(self) -> ClassMoments:
        """The same inputs as one group around 0: its scatter is the sum of z z'."""
        rows = self.counts.sqrt().unsqueeze(1) * self.means
        return ClassMoments(
            self.counts.sum(0, keepdim=True),
            torch.zeros_like(self.means[:1]),
            self.scatter + product(rows, self.scatter.shape[1]),
            self.power + rows.square().sum(),
        )


class MomentStream:
    """The moments of a stream of batches, gathered in place.

    Vectors wait in a buffer until it is full, so that small batches cost no more than large ones. A
    full buffer is added by the formula of `+` as one product of rows with themselves: those of the
    centred vectors, and behind them those of the steps of the means, weighted. Wide vectors are
    multiplied in float32, the precision that activations have; all sums are float64.

    Args:
        num_groups: K.
        dim: D.
        sketch: S of a scatter that is more than twice as wide.
        device: where the vectors are.
    """

    def __init__(
        self,
        num_groups: int,
        dim: int,
        *,
        sketch: int = SKETCH,
        device: torch.device | str = "cpu",
    ) -> None:
        self._sum = ClassMoments.empty(
            num_groups, dim, sketch=sketch, device=device
        )  # upper strips
        self._size = max(SMALLEST_BUFFER, BUFFER // max(dim, 1))
        rows = self._size + min(num_groups, self._size)  # a step for each group that has a vector
        self._rows = torch.empty(rows, dim, dtype=dtype_of(dim), device=device)
        self._groups = torch.empty(self._size, dtype=torch.long, device=device)
        self._held = 0

    def add(self, vectors: Tensor, groups: Tensor) -> None:
        """Take in a batch: (B, D) vectors and (B,) group indices below K.

        Raises:
            InputError: as `ClassMoments.of`; vectors that are not finite may be noticed later.
        """
        _check_batch(vectors, groups, len(self._sum.counts))
        vectors = vectors.detach()
        while len(vectors):
            taken = vectors[: self._size - self._held]
            end = self._held + len(taken)
            self._rows[self._held : end] = taken
            self._groups[self._held : end] = groups[: len(taken)]
            self._held = end
            if end == self._size:
                self._flush()
            vectors, groups = vectors[len(taken) :], groups[len(taken) :]

    @property
    def moments(self) -> ClassMoments:
        """The moments of all vectors so far."""
        self._flush()
        known = self._sum
        return ClassMoments(
            known.counts.clone(), known.means.clone(), symmetric(known.scatter), known.power.clone()
        )

    def merge(self, other: ClassMoments) -> None:
        """Take in the moments of another stream, as if its vectors came after those so far."""
        self._sum = self.moments + other

    def _flush(self) -> None:
        held, self._held = self._held, 0
        if not held:
            return
        known, z = self._sum, self._rows[:held]
        groups, place, counts = self._groups[:held].unique(return_inverse=True, return_counts=True)
        sums = known.means.new_zeros(len(groups), z.shape[1]).index_add_(0, place, z.double())
        if not sums.isfinite().all():  # fewer numbers to look at than the vectors
            raise InputError(_not_finite(z, before=int(known.counts.sum())))
        means = sums / counts.unsqueeze(1)
        before = known.counts[groups]
        share = counts / (before + counts)
        step = means - known.means[groups]
        z -= means.to(z.dtype)[place]
        moved = before.nonzero().squeeze(1)
        rows = self._rows[: held + len(moved)]
        rows[held:] = ((before * share).sqrt().unsqueeze(1) * step)[moved]
        add_product(known.scatter, rows)
        known.power.add_(torch.linalg.vector_norm(rows, dim=1).double().square().sum())
        known.counts.index_add_(0, groups, counts.double())
        known.means.index_add_(0, groups, share.unsqueeze(1) * step)


def _not_finite(vectors: Tensor, *, before: int) -> str:
    """What is told of vectors that are not finite, or whose sum is not."""
    bad = (~vectors.isfinite().all(1)).nonzero()
    where = f", first in number {before + int(bad[0])} of all so far, from 0" if len(bad) else ""
    return f"moments: the vectors hold NaN or infinity{where}; allowed: finite numbers"


def _check_batch(vectors: Tensor, groups: Tensor, num_groups: int) -> None:
    if vectors.ndim != 2 or groups.shape != vectors.shape[:1]:
        raise InputError(
            f"moments: found vectors {tuple(vectors.shape)} and groups {tuple(groups.shape)}, "
            "allowed: (B, D) and (B,)"
        )
    check_labels(groups, num_groups)


def check_labels(groups: Tensor, num_groups: int) -> None:
    """Refuse (B,) labels that are not whole numbers from 0 to K - 1.

    Raises:
        InputError: what they are.
    """
    if groups.is_floating_point():
        raise InputError(f"labels: found {groups.dtype}, allowed: whole numbers")
    if len(groups) and (int(groups.min()) < 0 or int(groups.max()) >= num_groups):
        low, high = int(groups.min()), int(groups.max())
        from_one = low > 0 and high == num_groups
        hint = "; where they count from 1, pass labels - 1" if from_one else ""
        raise InputError(f"labels: found {low} to {high}, allowed: 0 to {num_groups - 1}{hint}")
