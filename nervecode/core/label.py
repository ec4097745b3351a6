"""LabelCode: what the classifier's head loses by not knowing the label, in bits."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.core.code import LN2, SoftCode
from nervecode.core.moments import ClassMoments
from nervecode.core.precision import RANK, Precision, squared_length
from nervecode.core.scatter import Spectrum
from nervecode.errors import InputError, NotReadyError

EPSILON = 1e-12
LEAST = math.log(1e-300)  # of a log probability
# Logits that are computed with at once: what a cache holds; elsewhere, what memory may take.
BLOCK, BLOCK_ELSEWHERE = 1 << 16, 1 << 24


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
        # Of the unit-length features, without writing them out: q is the ratio of these two.
        q = torch.addcmul(self.isotropic * length, self.sign, explained).clamp_min(0)
        power = q / (length.clamp_min(EPSILON) + q)
        parts = [(power, logits)]
        if not torch.compiler.is_compiling():  # whose graphs hold for any number of inputs
            block = BLOCK if logits.device.type == "cpu" else BLOCK_ELSEWHERE
            rows = max(1, block // logits.shape[1])
            parts = list(zip(power.split(rows), logits.split(rows), strict=True))
        nats = [_excess(*part).log1p() for part in parts]
        return ((nats[0] if len(nats) == 1 else torch.cat(nats)) / LN2).to(logits)

    @staticmethod
    def unit(features: Tensor) -> Tensor:
        """(B, D) features, scaled to unit length; what `fit` needs the moments of."""
        return F.normalize(features, dim=1)


def _excess(power: Tensor, logits: Tensor) -> Tensor:
    """(B,) of (B,) powers g and (B, K) logits, the sum over k of the regret's fractions, less 1.

    What a sure head loses is far below the rounding of 1, so that the excess is summed:
    p_k (1 - p_k) (1 - p_k^g) / (the denominator).
    """
    # The clamp keeps p^g and its gradient finite at p = 0.
    log_p = torch.log_softmax(logits, dim=1, dtype=torch.float64).clamp_min(LEAST)
    log_pg = power.unsqueeze(1) * log_p
    p, less = log_p.exp(), log_p.expm1()  # p - 1
    denominator = torch.addcmul(p, less, log_pg.exp(), value=-1)
    return (p * less * log_pg.expm1() / denominator).sum(1)


class LabelDistribution(SoftCode):
    """The label's distribution as a code: a mixture with N_k = p_k and flat priors.

    Args:
        logits: (B, K) of the head. What is not needed of them is worked out when it is asked for.
    """

    _logits: Tensor

    def __init__(self, logits: Tensor) -> None:
        object.__setattr__(self, "_logits", logits)  # as a frozen dataclass does

    @property
    def log_probs(self) -> Tensor:
        """(B, K) log p, nats."""
        return self._logits.log_softmax(dim=1)

    @property
    def squared_distances(self) -> Tensor:
        """(B, K) -2 log p."""
        return self.log_probs.mul(-2)

    @property
    def log_priors(self) -> Tensor:
        """(K,) -log K, nats."""
        classes = self._logits.shape[1]
        return self._logits.new_full((classes,), -math.log(classes))

    @property
    def log_norm(self) -> Tensor:
        """() log K, nats."""
        return self.log_priors[0].neg()

    @property
    def best_index(self) -> Tensor:
        """(B,) int64, the class that the head predicts."""
        return self._logits.argmax(1)
