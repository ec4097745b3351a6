"""SoftCode: what a codebook says of a batch of vectors."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

LN2 = math.log(2.0)


@dataclass(frozen=True)
class SoftCode:
    """A batch of B vectors coded with K centres.

    Attributes:
        log_probs: (B, K) log p, the soft assignment, nats.
        squared_distances: (B, K) d2 under the codebook's metric.
        log_priors: (K,) log pi, nats.
        log_norm: () log of the Gaussian normaliser, 1/2 log|Lambda| - D/2 log 2 pi, nats.

    Everything else follows from these; the equations are in docs/mathematics.md.
    """

    log_probs: Tensor
    squared_distances: Tensor
    log_priors: Tensor
    log_norm: Tensor

    @property
    def probs(self) -> Tensor:
        """(B, K) the soft assignment p."""
        return self.log_probs.exp()

    @property
    def best_index(self) -> Tensor:
        """(B,) int64, the nearest centre k* = argmin d2."""
        return self.squared_distances.argmin(dim=1)

    @property
    def best_distance(self) -> Tensor:
        """(B,) the squared distance to the nearest centre."""
        return self.squared_distances.amin(dim=1)

    @property
    def best_length(self) -> Tensor:
        """(B,) L = -log p_k*, nats."""
        return -self.log_probs.gather(1, self.best_index.unsqueeze(1)).squeeze(1)

    @property
    def entropy(self) -> Tensor:
        """(B,) H = -sum p log p, nats; a code with p = 0 adds nothing."""
        return -(self.probs * _finite(self.log_probs)).sum(dim=1)

    @property
    def bits(self) -> Tensor:
        """(B,) the code length -log2 sum_k pi_k N(z; c_k, Lambda^-1), bits."""
        log_joint = self.log_priors - 0.5 * self.squared_distances
        return -(torch.logsumexp(log_joint, dim=1) + self.log_norm) / LN2

    @property
    def index_bits(self) -> Tensor:
        """(B,) E_p[-log2 pi_k], the price of naming the centre, bits."""
        return -(self.probs * _finite(self.log_priors)).sum(dim=1) / LN2

    @property
    def residual_bits(self) -> Tensor:
        """(B,) E_p[-log2 N_k(z)], the price of what the centre does not explain, bits."""
        return (0.5 * (self.probs * self.squared_distances).sum(dim=1) - self.log_norm) / LN2

    @property
    def bits_back(self) -> Tensor:
        """(B,) H2(p), what the free choice of the centre gives back, bits."""
        return self.entropy / LN2


def _finite(logs: Tensor) -> Tensor:
    """Logs with -inf replaced, so that 0 * log 0 is 0 and its gradient is not NaN."""
    return logs.clamp_min(torch.finfo(logs.dtype).min)
