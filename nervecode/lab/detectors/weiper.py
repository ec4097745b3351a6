"""WeiPer+KLD: how unlike ID train the histograms of an input are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool1d, normalize, pad

from nervecode.lab.data.samples import EVAL_BATCH
from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import head_of, in_batches
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features

REPEATS = 100
BINS = 100


def weiper_kld(
    train: Features,
    model: Classifier,
    *,
    distance: float,
    lambda_1: float,
    lambda_2: float,
    smoothing: int,
    smoothing_logits: int,
) -> Score:
    """Divergence of the histograms of features and of perturbed logits from those of ID train.

    Granz, Heurich and Landgraf 2024. The weights w_k of the head become w_k + δ |w_k| e for 100
    random directions e each. With KL the symmetric divergence of two histograms of 100 bins, that
    of the input smoothed, the score is KL(features) + λ1 KL(perturbed logits) - λ2 (mean over the
    perturbed heads of the largest softmax probability). δ, λ1, λ2 and the widths of smoothing are
    what the authors found on outliers for CIFAR-10.
    """
    perturbed = _Perturbed(head_of(model), distance)

    parts: tuple[Tensor, ...] = train.features.split(EVAL_BATCH)
    of_features = _Histogram.over(lambda: parts, smoothing=smoothing, floor=0.01)
    of_logits = _Histogram.over(
        lambda: map(perturbed, parts), smoothing=smoothing_logits, floor=0.025
    )

    def score(z: Tensor) -> Tensor:
        logits = perturbed(z)
        divergence = of_features.divergence(z) + lambda_1 * of_logits.divergence(logits)
        return divergence - lambda_2 * perturbed.confidence(logits)

    return in_batches(score)


class _Perturbed:
    """A head with its weights moved in random directions: (N, D) features -> (N, r K) logits."""

    def __init__(self, head: nn.Linear, distance: float) -> None:
        generator = torch.Generator().manual_seed(0)
        weight = head.weight  # (K, D)
        noise = torch.randn(REPEATS, *weight.shape, generator=generator, dtype=weight.dtype)
        length = distance * weight.norm(dim=1, keepdim=True)
        self._weight = (weight + length * normalize(noise, dim=2)).flatten(0, 1)  # (r K, D)
        self._bias = head.bias.repeat(REPEATS)

    def __call__(self, z: Tensor) -> Tensor:
        return nn.functional.linear(z, self._weight, self._bias)

    def confidence(self, logits: Tensor) -> Tensor:
        """(N,) largest softmax probability, mean over the heads."""
        largest: Tensor = logits.unflatten(1, (REPEATS, -1)).softmax(2).amax(2)
        return largest.mean(1)


@dataclass(frozen=True)
class _Histogram:
    """How the entries of a vector are distributed, on average over ID train.

    Attributes:
        low, high: the range of all entries.
        mean: (bins,) the mean histogram.
        smoothing: bins over which the histogram of an input is averaged.
        floor: added to each bin, so that the divergence is finite.
    """

    low: Tensor
    high: Tensor
    mean: Tensor
    smoothing: int
    floor: float

    @classmethod
    def over(
        cls, parts: Callable[[], Iterable[Tensor]], *, smoothing: int, floor: float
    ) -> _Histogram:
        """That of the rows of (n, M) parts, which are read twice."""
        lows, highs = zip(*[part.aminmax() for part in parts()], strict=True)
        low, high = torch.stack(lows).min(), torch.stack(highs).max()
        rows = torch.cat([_shares(part, low, high) for part in parts()])
        return cls(low, high, rows.mean(0), smoothing, floor)

    def divergence(self, values: Tensor) -> Tensor:
        """(N, M) entries -> (N,) KL(q, p) + KL(p, q), with q of the row and p of ID train."""
        before = (self.smoothing - 1) // 2
        rows = _shares(values, self.low, self.high)[:, None]
        padded = pad(rows, (before, self.smoothing - 1 - before), mode="replicate")
        q = self._positive(avg_pool1d(padded, self.smoothing, stride=1)[:, 0])
        p = self._positive(self.mean)
        return ((q - p) * (q.log() - p.log())).sum(1)

    def _positive(self, shares: Tensor) -> Tensor:
        shares = shares + self.floor
        return shares / shares.sum(-1, keepdim=True)


def _shares(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(N, M) entries -> (N, bins) the share of each row in each bin; none has those outside."""
    step = ((high - low) / BINS).clamp_min(torch.finfo(values.dtype).tiny)
    index = ((values - low) / step).long().clamp(0, BINS - 1)
    index = index.where((values >= low) & (values <= high), BINS)
    counts = values.new_zeros(len(values), BINS + 1)
    counts.scatter_add_(1, index, torch.ones_like(values))
    return counts[:, :BINS] / values.shape[1]
