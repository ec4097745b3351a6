"""Losses in bits of the vectors of layers, by codes made of the batch itself; docs/mathematics.md.

Vectors are brought to unit length first, so that nothing is gained by making them short or long.
All are taken in float32 at least, also under autocast; a batch of no inputs costs 0.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nervecode.core import CodingTrace
from nervecode.core.code import LN2
from nervecode.errors import InputError, NotReadyError
from nervecode.training.unit import unit_vectors, widened

NOTHING = -1e9  # ln of no share; unlike -inf, its gradient is a number


class VectorLoss(nn.Module, ABC):
    """The mean over layers of a loss of the vectors of a batch, differentiable, in bits."""

    def forward(self, layers: Mapping[str, Tensor | CodingTrace], labels: Tensor) -> Tensor:
        """() bits of one forward.

        Args:
            layers: layer -> (B, D) vectors, or the trace that holds them.
            labels: (B,) classes, int64.

        Raises:
            NotReadyError: no layers.
            InputError: vectors that are not (B, D) with D 1 or more, or labels that are not (B,).
        """
        name = type(self).__name__
        if not layers:
            raise NotReadyError(f"{name}: no layers; run a forward with coding enabled first")
        losses = []
        for layer, seen in layers.items():
            z = seen.vector if isinstance(seen, CodingTrace) else seen
            if z.ndim != 2 or not z.shape[1] or labels.shape != z.shape[:1]:
                raise InputError(
                    f"{name}: layer {layer!r}: found vectors {tuple(z.shape)} and labels "
                    f"{tuple(labels.shape)}, allowed: (B, D) and (B,)"
                )
            with torch.autocast(z.device.type, enabled=False):
                unit = unit_vectors(z)
                losses.append(self.of_layer(unit, labels) if len(unit) else unit.sum())
        return torch.stack(losses).mean()

    @abstractmethod
    def of_layer(self, unit: Tensor, labels: Tensor) -> Tensor:
        """() bits of (B, D) unit-length vectors, float32 or float64, B 1 or more."""


class CodeRate(VectorLoss):
    """Bits per direction that the vectors of a batch lack to fill the space, 0 where they do.

    The rate R = 1/2 log2 det(I + D / (B distortion^2) U'U) is what B vectors cost, to within the
    distortion; of m = min(B, D) directions it is at most m/2 log2(1 + D / (m distortion^2)). The
    loss is what it is below that, over m, plus `reduction` times the rate of each class alone, in
    the share of its inputs: the classes together spread, each of them drawn in. Yu et al. 2020,
    equation 11, https://arxiv.org/abs/2006.08558.

    Args:
        distortion: to which the vectors are told, more than 0, finite.
        reduction: weight of the classes, 0 or more, finite; 1 is the paper's.

    Raises:
        InputError: another distortion or weight.
    """

    def __init__(self, distortion: float = 0.5, *, reduction: float = 0.0) -> None:
        super().__init__()
        if not 0 < distortion < math.inf:
            raise InputError(
                f"CodeRate distortion: found {distortion}, allowed: more than 0, finite"
            )
        if not 0 <= reduction < math.inf:
            raise InputError(f"CodeRate reduction: found {reduction}, allowed: 0 or more, finite")
        self.distortion, self.reduction = distortion, reduction

    def of_layer(self, unit: Tensor, labels: Tensor) -> Tensor:
        """() of a batch."""
        count, width = unit.shape
        directions, per = min(count, width), width / self.distortion**2
        gram = unit @ unit.T if count < width else unit.T @ unit
        rate = _half_log2(gram * per / count).sum() / directions
        lacking = 0.5 * math.log2(1 + per / directions) - rate
        if not self.reduction:
            return lacking
        same = labels.unsqueeze(1) == labels
        sizes = same.sum(1)  # of the class of each input
        # Inputs of different classes do not meet, so that this is a block for each class, whose
        # Cholesky factor is one, too: its diagonal can be weighted class by class.
        blocks = torch.where(same, unit @ unit.T, 0.0) * per / sizes
        return lacking + self.reduction * (_half_log2(blocks) * sizes / count).sum() / directions


def _half_log2(matrix: Tensor) -> Tensor:
    """(n,) whose sum is 1/2 log2 det(I + matrix), of a matrix that is positive semidefinite."""
    whole = matrix + torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    factor: Tensor = torch.linalg.cholesky_ex(whole).L
    return factor.diagonal().log2()


class CodePrice(VectorLoss):
    """What it costs to name the class of an input by the other inputs of the batch.

    Each other input j is a code, with a share softmax(u_i'u_j / temperature) of input i's trust:
    -log2 of the share of all codes of i's class. A class may be several clouds. Inputs that are
    alone of their class cost nothing. Goldberger, Roweis, Hinton and Salakhutdinov 2004
    (neighbourhood components), https://papers.nips.cc/paper/2566.

    Args:
        temperature: of the cosines, more than 0, finite.

    Raises:
        InputError: another temperature.
    """

    def __init__(self, temperature: float = 0.1) -> None:
        super().__init__()
        if not 0 < temperature < math.inf:
            raise InputError(
                f"{type(self).__name__} temperature: found {temperature}, "
                "allowed: more than 0, finite"
            )
        self.temperature = temperature

    def of_layer(self, unit: Tensor, labels: Tensor) -> Tensor:
        """() mean over inputs."""
        shares, same = self._shares(unit, labels)
        price = -shares.masked_fill(~same, NOTHING).logsumexp(1)
        return torch.where(same.any(1), price, 0.0).mean() / LN2

    def _shares(self, unit: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(B, B) ln of the shares, and which codes are others of the same class."""
        cosines = unit @ unit.T / self.temperature
        own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
        same = (labels.unsqueeze(1) == labels) & ~own
        return cosines.masked_fill(own, NOTHING).log_softmax(1), same


class BatchPrice(CodePrice):
    """What it costs to name each other input of the class by its own code, mean over these.

    Supervised contrastive learning: it draws a class together. Khosla et al. 2020, equation 2,
    https://arxiv.org/abs/2004.11362.
    """

    def of_layer(self, unit: Tensor, labels: Tensor) -> Tensor:
        """() mean over inputs."""
        shares, same = self._shares(unit, labels)
        price = -shares.masked_fill(~same, 0).sum(1) / same.sum(1).clamp_min(1)
        return price.mean() / LN2


class MixturePrice(nn.Module):
    """What naming both classes of a mixture of two inputs costs beyond what it has to.

    A linear head says of a mixture of two features the same mixture of their logits. Input i is
    mixed with the next of the batch, wherever that has another class, in shares s and 1 - s:

        -s log2 p_y(i) - (1 - s) log2 p_y(i+1) - H(s) bits,   p = softmax(s l_i + (1 - s) l_(i+1))

    where H is the entropy of the shares. It is 0 where the mixture hesitates between its two
    classes and thinks of no third: classes stand apart, and nothing known lies between them. Shares
    run evenly over an interval. It is mixup (Zhang et al. 2018,
    https://arxiv.org/abs/1710.09412) of the last layer (Verma et al. 2019,
    https://arxiv.org/abs/1806.05236), beside the task instead of in its place. Batches have to come
    shuffled: in the order of classes hardly any input is mixed with another class.

    Args:
        least: the smallest share of an input, more than 0 and less than a half.

    Raises:
        InputError: another share.
    """

    def __init__(self, least: float = 0.3) -> None:
        super().__init__()
        if not 0 < least < 0.5:
            raise InputError(f"MixturePrice least: found {least}, allowed: more than 0, below 0.5")
        self.least = least

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """() mean over a batch of (B, K) logits and (B,) labels, differentiable.

        Raises:
            InputError: logits that are not (B, K), or labels that are not (B,); on the CPU also
                labels outside 0 to K - 1, which other devices are not made to wait for.
        """
        if logits.ndim != 2 or labels.shape != logits.shape[:1]:
            raise InputError(
                f"MixturePrice: found logits {tuple(logits.shape)} and labels "
                f"{tuple(labels.shape)}, allowed: (B, K) and (B,)"
            )
        logits = widened(logits)
        if not len(labels):
            return logits.sum()
        if labels.device.type == "cpu":
            _check_classes(labels, logits.shape[1])
        with torch.autocast(logits.device.type, enabled=False):
            return self._price(logits, labels)

    def _price(self, logits: Tensor, labels: Tensor) -> Tensor:
        count = len(labels)
        steps = (torch.arange(count, device=logits.device, dtype=logits.dtype) + 0.5) / count
        shares = self.least + (1 - 2 * self.least) * steps
        others = labels.roll(-1)
        mixed = torch.lerp(logits.roll(-1, 0), logits, shares.unsqueeze(1)).log_softmax(1)
        price = torch.zeros_like(shares)
        for share, named in ((shares, labels), (1 - shares, others)):
            price = price + share * (share.log() - mixed.gather(1, named.unsqueeze(1)).squeeze(1))
        return torch.where(labels != others, price, 0.0).mean() / LN2


def _check_classes(labels: Tensor, classes: int) -> None:
    wrong = labels[(labels < 0) | (labels >= classes)]
    if len(wrong):
        raise InputError(
            f"MixturePrice: found label {int(wrong[0])}, allowed: 0 to {classes - 1}, as logits"
        )
