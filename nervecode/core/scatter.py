"""Scatter: a sum of outer products of vectors, whole or, where they are wide, a sketch of it.

The sketch of a (D, D) matrix A is A Omega, with Omega a fixed (D, S) matrix of random signs. Like A
itself it is a sum over the vectors, so that sketches of two sets add to the sketch of both; from
it and the trace follow the leading directions (Tropp, Yurtsever, Udell and Cevher 2017,
https://arxiv.org/abs/1706.05736). Memory and work then grow with D, and not with its square.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

SKETCH = 256  # columns of a sketch; a matrix up to twice as wide is kept whole
EXACT = 256  # up to this width every product is in float64, and beyond it in float32
STRIP = 64
SEED = 0
DEAD = 1e-7  # of the largest eigenvalue: below it, float32 products leave rounding alone


def sketch_of(rank: int) -> int:
    """The columns of sketches that are asked for `rank` directions."""
    return max(SKETCH, 2 * rank)


def columns(dim: int, sketch: int) -> int:
    """The columns that are kept of a (D, D) scatter."""
    return sketch if dim > 2 * sketch else dim


def dtype_of(dim: int) -> torch.dtype:
    """What vectors of this width are multiplied in; their sums are float64 in either case."""
    return torch.float64 if dim <= EXACT else torch.float32


def product(rows: Tensor, width: int) -> Tensor:
    """(N, D) -> (D, width) the sum of the rows' outer products, or its sketch."""
    dim = rows.shape[1]
    if width == dim:
        return rows.T @ rows
    return rows.T @ (rows @ _signs(dim, width, rows.device).to(rows.dtype))


def add_product(scatter: Tensor, rows: Tensor) -> None:
    """Add `product` in place; of a whole matrix what is right of the diagonal, strip by strip."""
    dim, width = scatter.shape
    if width < dim:
        scatter += product(rows, width)
        return
    for start in range(0, dim, STRIP):
        strip = slice(start, start + STRIP)
        scatter[strip, start:] += rows[:, strip].T @ rows[:, start:]


def symmetric(upper: Tensor) -> Tensor:
    """The whole matrix of what `add_product` filled; a sketch as it is."""
    if upper.shape[1] < upper.shape[0]:
        return upper.clone()
    upper = upper.triu()
    return upper + upper.triu(1).T


@lru_cache(maxsize=8)  # layers of one width share it
def _signs(dim: int, width: int, device: torch.device) -> Tensor:
    """Omega: (D, S) ones and minus ones, the same on every device."""
    generator = torch.Generator("cpu").manual_seed(SEED)
    return (2.0 * torch.randint(2, (dim, width), generator=generator, device="cpu") - 1).to(device)


class Spectrum(NamedTuple):
    """Eigenvalues and eigenvectors of a positive semidefinite (D, D) matrix.

    Attributes:
        values: (S,) the leading eigenvalues, ascending, float64.
        vectors: (D, R) of the R largest; 0 where a sketch knows no direction.
        rest: () the mean of the D - S other eigenvalues; 0 where there is none.
    """

    values: Tensor
    vectors: Tensor
    rest: Tensor

    @classmethod
    def of(cls, scatter: Tensor, trace: Tensor, rank: int) -> Spectrum:
        """Of a (D, D) matrix, or of its (D, S) sketch and its trace.

        The sketch Y stands for the Nyström approximation Y (Omega' Y)^-1 Y' = B B'; what that
        leaves of the trace belongs to the rest.
        """
        dim, width = scatter.shape
        if width == dim:
            values, axes = torch.linalg.eigh(scatter)
            return cls(values, axes[:, -rank:], values.new_zeros(()))
        signs = _signs(dim, width, scatter.device).to(scatter.dtype)
        root = _root_of_inverse(signs.T @ scatter)  # B = Y root
        values, rotation = torch.linalg.eigh(_symmetrised(root.T @ (scatter.T @ scatter) @ root))
        scale = _inverse_root(values)
        alive = scale > 0
        values = torch.where(alive, values, 0.0)
        rest = (trace - values.sum()).clamp_min(0) / (dim - alive.sum())
        vectors: Tensor = scatter @ (root @ (rotation * scale)[:, -rank:])
        return cls(torch.where(alive, values, rest), vectors, rest)


def _root_of_inverse(matrix: Tensor) -> Tensor:
    """(S, S) C with C C' = M^-1 on the directions of M that are alive."""
    values, vectors = torch.linalg.eigh(_symmetrised(matrix))
    root: Tensor = vectors * _inverse_root(values)
    return root


def _symmetrised(matrix: Tensor) -> Tensor:
    return 0.5 * (matrix + matrix.T)


def _inverse_root(values: Tensor) -> Tensor:
    """(S,) v^-1/2, and 0 for those that are dead."""
    alive = values > DEAD * values.amax().clamp_min(torch.finfo(values.dtype).tiny)
    root: Tensor = torch.where(alive, values, torch.inf).rsqrt()
    return root


def oas(spectrum: Spectrum, samples: int) -> Spectrum:
    """A covariance shrunk to a multiple of the identity, Oracle Approximating Shrinkage.

    Needs nothing beyond the covariance, so it streams exactly. Chen, Wiesel, Eldar and Hero 2010,
    https://arxiv.org/abs/0907.4698, in the form that scikit-learn computes.
    """
    values, vectors, rest = spectrum
    dim, others = len(vectors), len(vectors) - len(values)
    mu = (values.sum() + others * rest) / dim
    alpha = (values.square().sum() + others * rest.square()) / dim**2
    denominator = (samples + 1) * (alpha - mu.square() / dim)
    weight = (alpha + mu.square()) / denominator.clamp_min(torch.finfo(mu.dtype).tiny)
    weight = weight.clamp_max(1)
    shrunk = (1 - weight) * values + weight * mu
    return Spectrum(shrunk, vectors, (1 - weight) * rest + weight * mu if others else rest)
