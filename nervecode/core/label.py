"""LabelCode: what the classifier's head loses by not knowing the label, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.core.code import LN2
from nervecode.core.moments import ClassMoments
from nervecode.core.precision import RANK, Precision, squared_length
from nervecode.core.scatter import Spectrum
from nervecode.errors import InputError, NotReadyError

EPSILON = 1e-12
LEAST = math.log(1e-300)  # of a log probability


class LabelCode(nn.Module):
    """Regret of predictive normalised maximum likelihood for a linear head.

    With p the head's probabilities, f the unit-length features, q = f' (sum f f')^-1 f over the
    training data and g = q / (1 + q), the regret is log2 sum_k p_k / (p_k + (1 - p_k) p_k^g) bits:
    the price of a label by the code that is best in the worst case, less that of a learner who
    was told the label. It grows where the head hesitates, and where the features point away from
    all training data. Bibas, Feder and Hassner 2021, https://arxiv.org/abs/2110.09246.

    Args:
        dim: D, the width of the features.
        rank: directions of the features' second moment with a value of their own.
    """

    factors: Tensor  # (D, rank)
    isotropic: Tensor  # ()
    sign: Tensor  # ()

    def __init__(self, dim: int, rank: int) -> None:
        super().__init__()
        self.register_buffer("factors", torch.zeros(dim, rank))
        self.register_buffer("isotropic", torch.zeros(()))
        self.register_buffer("sign", torch.zeros(()))

    @classmethod
    def fit(cls, moments: ClassMoments, *, rank: int = RANK) -> LabelCode:
        """Fit to the moments of the unit-length features of training data, whatever the groups.

        Raises:
            NotReadyError: fewer than two inputs.
        """
        if moments.total < 2:
            raise NotReadyError(f"fit: found {moments.total} inputs, a code needs at least 2")
        second = moments.about_zero
        spectrum = Spectrum.of(second.scatter, second.power, rank)
        precision = Precision(spectrum, power=second.power.new_zeros(()))
        code = cls(*precision.directions.shape)
        code.factors = precision.directions.float().contiguous()
        code.isotropic, code.sign = precision.isotropic.float(), precision.sign.float()
        return code

    def forward(self, features: Tensor, logits: Tensor) -> Tensor:
        """(B, D) features and (B, K) logits -> (B,) regret, bits."""
        if features.ndim != 2 or features.shape[1] != len(self.factors):
            found = tuple(features.shape)
            raise InputError(f"features: found {found}, allowed: (B, {len(self.factors)})")
        length = squared_length(features).double()
        explained = squared_length(features @ self.factors).double()
        # Of the unit-length features, without writing them out.
        q = (self.isotropic * length + self.sign * explained) / length.clamp_min(EPSILON)
        q = q.clamp_min(0)
        g = q / (1 + q)
        # (K, B), as in `core.gaussian.price`. The clamp keeps p^g and its gradient finite at p = 0.
        log_p = torch.log_softmax(logits.T.double(), dim=0).clamp_min(LEAST)
        p, others = log_p.exp(), -log_p.expm1()
        # What a sure head loses is far below the rounding of 1, which the sum over all k is: the
        # excess of the sum over 1 is summed instead, p_k (1 - p_k) (1 - p_k^g) / (the denominator).
        excess = p * others * -(g * log_p).expm1() / (p + others * (g * log_p).exp())
        return (excess.sum(0).log1p() / LN2).to(logits)

    @staticmethod
    def unit(features: Tensor) -> Tensor:
        """(B, D) features, scaled to unit length; what `fit` needs the moments of."""
        return F.normalize(features, dim=1)
