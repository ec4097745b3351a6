"""Precision: the inverse of a covariance, as a multiple of the identity and a few directions.

Lambda = b 1 + s V V' with s = 1 or -1: the leading `rank` directions of the covariance have
variances of their own, all others share one (probabilistic PCA, Tipping and Bishop 1999,
https://doi.org/10.1111/1467-9868.00196).
"""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.core.moments import ClassMoments
from nervecode.core.scatter import Spectrum, oas
from nervecode.errors import NotReadyError, check_count

RANK = 128


class Precision:
    """Lambda, the inverse of a covariance.

    Args:
        covariance: its eigenvalues, and the directions with a variance of their own.
        power: mean square of the vectors behind it; it bounds what rounding left of them.

    Attributes:
        directions: (D, rank) V.
        isotropic: () b.
        sign: () s.
        log_det: () log|Lambda|, nats.
    """

    def __init__(self, covariance: Spectrum, *, power: Tensor) -> None:
        values, vectors, rest = covariance
        dim, others = len(vectors), len(vectors) - len(values)
        floor = _floor((values.sum() + others * rest) / dim, power)
        values = values.clamp_min(0) + floor
        kept = vectors.shape[1]
        own = values[-kept:]
        if kept == dim:
            self.isotropic, self.sign = values.new_zeros(()), values.new_ones(())
            weights = own.reciprocal()
            self.log_det = -own.log().sum()
        else:
            # The leading variances are the larger ones, so their precision lies below the shared.
            shared = (values[:-kept].sum() + others * (rest + floor)) / (dim - kept)
            self.isotropic, self.sign = shared.reciprocal(), -values.new_ones(())
            weights = (self.isotropic - own.reciprocal()).clamp_min(0)
            self.log_det = -own.log().sum() - (dim - kept) * shared.log()
        self.directions = vectors * weights.sqrt()

    @classmethod
    def within(cls, moments: ClassMoments, rank: int = RANK) -> Precision:
        """Of the covariance within groups, shrunk by OAS.

        Args:
            moments: of at least two inputs.
            rank: directions with a variance of their own; D or more keeps all of them.

        Raises:
            NotReadyError: fewer than two inputs.
            InputError: a rank below 1.
        """
        check_count("rank", rank)
        total = moments.total
        if total < 2:
            raise NotReadyError(f"fit: found {total} inputs, a code needs at least 2")
        covariance = oas(Spectrum.of(moments.within, moments.power / total, rank), total)
        return cls(covariance, power=moments.mean.square().mean())

    def times(self, rows: Tensor) -> Tensor:
        """(..., D) rows -> (..., D) Lambda row, in the dtype of the rows."""
        directions = self.directions.to(rows.dtype)
        explained = (rows @ directions) @ directions.T
        scaled: Tensor = self.isotropic * rows + self.sign * explained
        return scaled

    def whiten(self, rows: Tensor) -> Tensor:
        """(..., D) rows -> (..., D) sqrt(Lambda) row, whose squared lengths are row' Lambda row."""
        root, weights = self.isotropic.sqrt(), self.directions.square().sum(0)
        # sqrt(b + s w) - sqrt(b), over w, which may be 0
        steps = self.sign / ((self.isotropic + self.sign * weights).clamp_min(0).sqrt() + root)
        whitened: Tensor = root * rows + (rows @ self.directions * steps) @ self.directions.T
        return whitened


def squared_length(rows: Tensor) -> Tensor:
    """(B, D) -> (B,) squared length; in one pass, where square and sum would take two."""
    length: Tensor = torch.linalg.vector_norm(rows, dim=1)
    return length.square()


def _floor(variance: Tensor, power: Tensor) -> Tensor:
    """What is added to every variance, so that dead directions stay finite.

    A millionth of the mean variance, and never less than what rounding to float32 leaves of a
    constant vector with mean square `power`.
    """
    rounding = power * torch.finfo(torch.float32).eps ** 2
    return torch.maximum(variance * 1e-6, rounding).clamp_min(1e-20)
