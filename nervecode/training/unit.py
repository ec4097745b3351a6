"""Vectors of unit length, whose gradient stays finite where there is no length."""

from __future__ import annotations

import torch
from torch import Tensor

SHORT = 1e-5  # below it a vector is short


def widened(x: Tensor) -> Tensor:
    """The same in float32 at least, which losses are taken in."""
    return x if x.dtype == torch.float64 else x.float()


def unit_vectors(z: Tensor) -> Tensor:
    """(..., D) vectors -> (..., D) of unit length, in float32 at least; D is 1 or more.

    A vector below 1e-5 is short: it gets the length (|z| / 1e-5)^2 instead of 1, so that the
    gradient is at most 2e5 times that of the result and fades to 0 at the zero vector, which has no
    direction. Large finite entries do not overflow.
    """
    z = widened(z)
    # Squares do not overflow; the result does not depend on this scale, which has no gradient.
    z = z / z.detach().abs().amax(-1, keepdim=True).clamp_min(1)
    length: Tensor = torch.linalg.vector_norm(z, dim=-1, keepdim=True)
    return z * (length / length.clamp_min(SHORT).square())
