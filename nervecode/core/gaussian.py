"""GaussianCode: class codes that share a covariance, and a background code over all data.

The precision is kept in factor form (`core.precision`), so that one thin matrix product prices a
batch under every class and under the background. docs/mathematics.md derives it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nervecode.core.code import LN2, SoftCode
from nervecode.core.moments import ClassMoments
from nervecode.core.precision import RANK, Precision
from nervecode.errors import InputError, NotReadyError

EXACT = "donot_use_mm_for_euclid_dist"  # a product would lose the digits of a distance


class Projection(NamedTuple):
    """B vectors, less the mean, as one code sees them.

    Attributes:
        length: (B,) |t|.
        explained: (B,) |V't|.
        tilts: (B, K) t' Lambda (c_k - mean).
    """

    length: Tensor
    explained: Tensor
    tilts: Tensor


class Price(NamedTuple):
    """What B vectors cost under one code.

    Attributes:
        bits: (B,) B(z).
        regret: (B,) R(z), bits.
        code: the code under the classes.
    """

    bits: Tensor
    regret: Tensor
    code: SoftCode


class GaussianCode(nn.Module):
    """B(z) = -log2 sum_k pi_k N(z; c_k, W) and R(z) = B(z) - B_background(z), in bits.

    The background is one Gaussian over all data: covariance W plus the scatter of the centres, so
    that it dominates W. Made by `fit`; the constructor only makes room for a state dict.

    Args:
        num_codes: K.
        dim: D.
        rank: columns of V.
    """

    mean: Tensor  # (D,)
    factors: Tensor  # (D, rank + K) V, and beside it the tilt Lambda (c_k - mean)
    shift: Tensor  # (rank + K,) -mean' factors
    isotropic: Tensor  # () b, the precision that all directions share
    sign: Tensor  # () s
    offsets: Tensor  # (K,) (c_k - mean)' Lambda (c_k - mean)
    log_priors: Tensor  # (K,)
    log_norm: Tensor  # () log normaliser of a class code, nats
    base: Tensor  # (K,) log_priors - offsets / 2
    saving: (
        Tensor  # (K, K) M: |M'y|^2 is what the background saves along the centres' scatter, nats
    )
    gap: Tensor  # () log normaliser of the background less that of a class, nats

    def __init__(self, num_codes: int, dim: int, rank: int) -> None:
        super().__init__()
        shapes = {
            "mean": (dim,),
            "factors": (dim, rank + num_codes),
            "shift": (rank + num_codes,),
            "isotropic": (),
            "sign": (),
            "offsets": (num_codes,),
            "log_priors": (num_codes,),
            "log_norm": (),
            "base": (num_codes,),
            "saving": (num_codes, num_codes),
            "gap": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def fit(cls, moments: ClassMoments, *, rank: int = RANK) -> GaussianCode:
        """Fit to streamed moments, in float64; kept in float32 for use.

        The covariance within groups is shrunk by OAS. Empty groups have no centre.

        Args:
            moments: of at least two inputs.
            rank: directions with a variance of their own; D or more keeps all of them.

        Raises:
            NotReadyError: fewer than two inputs.
            InputError: a rank below 1.
        """
        if moments.total < 2:
            raise NotReadyError(f"fit: found {moments.total} inputs, a code needs at least 2")
        if rank < 1:
            raise InputError(f"rank: found {rank}, allowed: at least 1")
        used = moments.counts > 0
        priors = (moments.counts / moments.counts.sum())[used]
        centred = moments.means[used] - moments.mean
        precision = Precision.within(moments, rank)
        tilt = precision.times(centred)  # (K, D)
        offsets = (tilt * centred).sum(1)
        mixing, scatter = _axes(priors, tilt @ centred.T)
        code = cls(len(priors), len(moments.mean), precision.directions.shape[1])
        log_norm = 0.5 * (precision.log_det - len(moments.mean) * math.log(2 * math.pi))
        factors = torch.cat([precision.directions, tilt.T], dim=1)
        values = {
            "mean": moments.mean,
            "factors": factors,
            "shift": -moments.mean @ factors,
            "isotropic": precision.isotropic,
            "sign": precision.sign,
            "offsets": offsets,
            "log_priors": priors.log(),
            "log_norm": log_norm,
            "base": priors.log() - 0.5 * offsets,
            "saving": mixing * (0.5 * scatter / (1 + scatter)).sqrt(),
            "gap": -0.5 * torch.log1p(scatter).sum(),
        }
        for name, value in values.items():
            setattr(code, name, value.float().contiguous())
        return code

    @property
    def num_codes(self) -> int:
        """K, the number of class centres."""
        return len(self.log_priors)

    @property
    def rank(self) -> int:
        """The number of directions with a variance of their own."""
        return self.factors.shape[1] - self.num_codes

    def project(self, z: Tensor) -> Projection:
        """What pricing needs to know of (B, D) vectors: the only work whose size grows with D.

        Raises:
            InputError: vectors of another width.
        """
        if z.ndim != 2 or z.shape[1] != len(self.mean):
            raise InputError(f"vectors: found {tuple(z.shape)}, allowed: (B, {len(self.mean)})")
        # Neither line writes t = z - mean, a tensor as large as the activation itself.
        length = torch.cdist(z, self.mean.unsqueeze(0), compute_mode=EXACT).squeeze(1)
        product = torch.addmm(self.shift, z, self.factors)
        explained = torch.linalg.vector_norm(product[:, : self.rank], dim=1)
        return Projection(length, explained, product[:, self.rank :])

    def forward(self, z: Tensor) -> Price:
        """Code (B, D) vectors."""
        return price([self], [self.project(z)])[0]

    def extra_repr(self) -> str:
        """What `print(code)` adds."""
        return f"num_codes={self.num_codes}, dim={len(self.mean)}, rank={self.rank}"


def price(codes: Sequence[GaussianCode], projections: Sequence[Projection]) -> list[Price]:
    """Price L batches of equal size under L codes of equal K, each operation on all at once.

    The classes are rows and the inputs columns, (L, K, B): PyTorch reduces over rows several
    times as fast as over a short last dimension.
    """
    length = torch.stack([one.length for one in projections])  # (L, B)
    explained = torch.stack([one.explained for one in projections])
    y = torch.stack([one.tilts.T for one in projections])  # (L, K, B)

    def stacked(name: str, *shape: int) -> Tensor:
        return torch.stack([getattr(code, name) for code in codes]).view(len(codes), *shape)

    total = stacked("isotropic", 1) * length.square() + stacked("sign", 1) * explained.square()
    # The class logits leave out `total`, which is the same for all: no digit is lost to it.
    logits = y + stacked("base", -1, 1)
    log_probs = torch.log_softmax(logits, dim=1)
    evidence = logits.amax(1) - log_probs.amax(1)  # their logsumexp
    bits = (0.5 * total - evidence - stacked("log_norm", 1)) / LN2
    saved = torch.linalg.vector_norm(stacked("saving", *codes[0].saving.shape).mT @ y, dim=1)
    regret = (saved.square() - evidence + stacked("gap", 1)) / LN2
    distances = torch.add(total.unsqueeze(1) + stacked("offsets", -1, 1), y, alpha=-2).clamp_min(0)
    soft = [
        SoftCode(p.T, d.T, code.log_priors, code.log_norm)
        for p, d, code in zip(log_probs, distances, codes, strict=True)
    ]
    return [Price(*one) for one in zip(bits, regret, soft, strict=True)]


def _axes(priors: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    """Axes of the centres' scatter in the whitened space: (mixing (K, K), scatter (K,)).

    With X the (K, D) whitened centres, each times sqrt(pi): X X' = P diag(scatter) P'. Column j of
    E = X' P / sqrt(scatter_j) is an axis, so t' Lambda^(1/2) E = y' sqrt(pi) P / sqrt(scatter), and
    the mixing is what follows y'.
    """
    root = priors.sqrt()
    scatter, rotation = torch.linalg.eigh(root.unsqueeze(1) * gram * root)
    scatter = scatter.clamp_min(0)
    # The centres span at most K - 1 dimensions: the others are rounding, and count for nothing.
    real = scatter > scatter.max() * 1e-10 + 1e-20
    scale = torch.where(real, scatter, torch.inf).rsqrt()
    return root.unsqueeze(1) * rotation * scale, torch.where(real, scatter, 0.0)
