"""GaussianCode: codes of the classes that share a covariance, and a background code over all data.

The precision is kept in factor form (`core.precision`), so that one thin matrix product prices a
batch under every class and under the background. docs/mathematics.md derives it.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from nervecode.core.moments import ClassMoments
from nervecode.core.precision import RANK, Precision
from nervecode.core.price import KEPT, Price, Projection, price
from nervecode.errors import InputError


class GaussianCode(nn.Module):
    """B(z) = -log2 sum_j pi_j N(z; c_j, V) and R(z) = B_class(z) - B_background(z), in bits.

    B runs over all C codes, several to a class, with the covariance V within codes. R asks what is
    lost by believing in the classes: B_class has one code for each of the K classes, with the
    covariance W within classes, and the background is one Gaussian over all data, W plus the
    scatter of the class means, so that it dominates W. Made by `fit`; the constructor only makes
    room for a state dict.

    Args:
        num_codes: C; equal to K where every class has one code, and V is W.
        dim: D.
        rank: directions with a variance of their own.
        num_classes: K; None for as many as codes.
        between: E, directions in which the class means may differ: K, or D where that is less;
            None for K.
    """

    mean: Tensor  # (D,)
    factors: Tensor  # (D, rank + T) directions, and beside them the tilts Lambda (c - mean)
    shift: Tensor  # (rank + T,) -mean' factors
    isotropic: Tensor  # () b, the precision that all directions share
    sign: Tensor  # () s
    offsets: Tensor  # (C,) (c_j - mean)' Lambda (c_j - mean)
    log_priors: Tensor  # (C,)
    log_norm: Tensor  # () log normaliser of a code, nats
    base: Tensor  # (T,) log prior - offset / 2
    saving: Tensor  # (K, E) M: |M'y|^2 is what the background saves along the means' scatter, nats
    gap: Tensor  # () log normaliser of the background less that of a code, nats

    def __init__(
        self,
        num_codes: int,
        dim: int,
        rank: int,
        *,
        num_classes: int | None = None,
        between: int | None = None,
    ) -> None:
        super().__init__()
        self.rank, self.num_codes, self.num_classes = rank, num_codes, num_classes or num_codes
        classes = self.num_classes
        tilts = classes if num_codes == classes else classes + num_codes
        shapes = {
            "mean": (dim,),
            "factors": (dim, rank + tilts),
            "shift": (rank + tilts,),
            "isotropic": (),
            "sign": (),
            "offsets": (num_codes,),
            "log_priors": (num_codes,),
            "log_norm": (),
            "base": (tilts,),
            "saving": (classes, between or classes),
            "gap": (),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape))

    @classmethod
    def fit(
        cls,
        moments: ClassMoments,
        *,
        rank: int = RANK,
        within: Precision | None = None,
        codes: ClassMoments | None = None,
    ) -> GaussianCode:
        """Fit to streamed moments, in float64; kept in float32 for use.

        Covariances are shrunk by OAS. Empty groups have no code.

        Args:
            moments: per class, of at least two inputs.
            rank: directions with a variance of their own; D or more keeps all of them.
            within: the precision within classes at this rank, where it is known already.
            codes: moments per code, see `nervecode.core.centres`; None for one code per class.

        Raises:
            NotReadyError: fewer than two inputs.
            InputError: a rank below 1.
        """
        origin, dim = moments.mean, len(moments.mean)
        precision = within or Precision.within(moments, rank)
        kinds = [_Centres.of(moments, origin, precision)]
        saving, gap = _background(kinds[0].priors, precision.whiten(kinds[0].steps))
        if codes is not None:
            precision = Precision.within(codes, rank)
            kinds.append(_Centres.of(codes, origin, precision))
        classes, own = kinds[0], kinds[-1]
        columns = [precision.directions.T, *[one.tilts for one in kinds]]
        code = cls(
            len(own.priors),
            dim,
            precision.directions.shape[1],
            num_classes=len(classes.priors),
            between=saving.shape[1],
        )
        values = {
            "mean": origin,
            "factors": torch.cat([rows.float() for rows in columns]).T,
            "shift": torch.cat([-rows @ origin for rows in columns]),
            "isotropic": precision.isotropic,
            "sign": precision.sign,
            "offsets": own.offsets,
            "log_priors": own.priors.log(),
            "log_norm": 0.5 * (precision.log_det - dim * math.log(2 * math.pi)),
            "base": torch.cat([one.priors.log() - 0.5 * one.offsets for one in kinds]),
            "saving": saving,
            "gap": gap,
        }
        for name, value in values.items():
            setattr(code, name, value.float().contiguous())
        return code

    def fitting(self, z: Tensor) -> Tensor:
        """(B, D) vectors in the dtype of the code.

        Raises:
            InputError: vectors of another width.
        """
        mean = self.mean
        if z.ndim != 2 or z.shape[1] != mean.shape[0]:
            raise InputError(f"vectors: found {tuple(z.shape)}, allowed: (B, {mean.shape[0]})")
        return z.to(mean.dtype)

    def project(self, z: Tensor) -> Projection:
        """What pricing needs of (B, D) `fitting` vectors: the only work whose size grows with D."""
        factors, rank = self.factors, self.rank
        length = torch.linalg.vector_norm(z - self.mean, dim=1)
        product = torch.addmm(self.shift, z, factors)
        own, tilts = product.split_with_sizes([rank, factors.shape[1] - rank], dim=1)
        return Projection(length, torch.linalg.vector_norm(own, dim=1), tilts)

    def forward(self, z: Tensor) -> Price:
        """Code (B, D) vectors; an InputError tells those of another width."""
        return price([self], [self.project(self.fitting(z))])[0]

    def __getstate__(self) -> dict[str, Any]:
        """Without what `Stacked` keeps: a copy's tensors count their changes anew."""
        return {name: value for name, value in self.__dict__.items() if name != KEPT}

    def extra_repr(self) -> str:
        """What `print(code)` adds."""
        sizes = {"num_codes": self.num_codes, "num_classes": self.num_classes}
        sizes |= {"dim": len(self.mean), "rank": self.rank}
        return ", ".join(f"{name}={size}" for name, size in sizes.items())


class _Centres(NamedTuple):
    """The centres of J groups that are not empty, seen from an origin under one precision.

    Attributes:
        priors: (J,) shares of the inputs.
        steps: (J, D) c - origin.
        tilts: (J, D) Lambda (c - origin).
        offsets: (J,) (c - origin)' Lambda (c - origin).
    """

    priors: Tensor
    steps: Tensor
    tilts: Tensor
    offsets: Tensor

    @classmethod
    def of(cls, moments: ClassMoments, origin: Tensor, precision: Precision) -> _Centres:
        """Those of some moments."""
        used = moments.counts > 0
        steps = moments.means[used] - origin
        tilts = precision.times(steps)
        priors = (moments.counts / moments.counts.sum())[used]
        return cls(priors, steps, tilts, (tilts * steps).sum(1))


def _background(priors: Tensor, whitened: Tensor) -> tuple[Tensor, Tensor]:
    """(saving (K, E), gap ()) of the background code, from (K, D) whitened steps to the classes.

    With X their rows, each times sqrt(pi), the background has, whitened, the covariance 1 + X'X, so
    that it saves u'X'(1 + X X')^-1 X u / 2 nats of the whitened vector u, and X u = sqrt(pi) y.
    Of more classes than dimensions, X = O Y with orthonormal columns O, and in their span
    (1 + X X')^-1 is O (1 + Y Y')^-1 O'. L L' = 1 + Y Y'.
    """
    root = priors.sqrt()
    rows = root.unsqueeze(1) * whitened
    if rows.shape[0] > rows.shape[1]:
        basis, rows = torch.linalg.qr(rows)
        span = basis.T * root
    else:
        span = torch.diag(root)
    identity = torch.eye(len(rows), dtype=root.dtype, device=root.device)
    sum_ = torch.addmm(identity, rows, rows.T)
    factor, failed = torch.linalg.cholesky_ex(sum_)
    if failed:  # of classes without any spread, beside whose distances the 1 is lost to rounding
        values, vectors = torch.linalg.eigh(sum_)
        factor = torch.linalg.qr((vectors * values.clamp_min(1).sqrt()).T).R.T
        factor = factor * factor.diagonal().sign()
    saving = torch.linalg.solve_triangular(factor, span, upper=False)
    return math.sqrt(0.5) * saving.T, -factor.diagonal().log().sum()
