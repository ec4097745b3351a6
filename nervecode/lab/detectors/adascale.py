"""AdaSCALE-A: features scaled the more, the less they move with the input."""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.lab.data.samples import EVAL_BATCH, as_float
from nervecode.lab.detectors.registry import Score
from nervecode.lab.detectors.tools import sample
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import Features

SAMPLES = 5000
PIXELS, STEP = 0.05, 0.5
SHIFT_SHARE, VALUE_SHARE, SHIFT_WEIGHT = 0.01, 0.05, 10.0
P_MIN = 60.0


def adascale(train: Features, model: Classifier, *, p_max: float) -> Score:
    """Energy of features scaled by how few carry their sum, at a percentile of the input's own.

    Regmi 2025, AdaSCALE-A. The 5 % of the normalised input with the smallest gradients of the
    predicted logit take a step of 0.5 along their signs. With the moves of the largest 1 % of
    the features, ten times, and the values that the largest 5 % then have, Q is their sum. Where
    F is Q's distribution over ID train, the features are scaled by exp(sum of all / sum of those
    above percentile p) with p = p_min + (1 - F(Q)) (p_max - p_min). The authors keep p_min at 60
    and choose p_max on outliers; 85 is that of their config.
    """
    device = model.head.weight.device

    def observe(inputs: Tensor) -> tuple[Tensor, Tensor]:
        seen = [_observe(model, part.to(device)) for part in inputs.split(EVAL_BATCH)]
        features, moved = zip(*seen, strict=True)
        return torch.cat(features), torch.cat(moved)

    known = observe(sample(train.inputs, SAMPLES))[1].sort().values

    def score(split: Features) -> Tensor:
        features, moved = observe(split.inputs)
        share = torch.searchsorted(known, moved, right=True) / len(known)  # F(Q)
        scaled = features * _scale(features, P_MIN + (1 - share) * (p_max - P_MIN))
        with torch.no_grad():
            logits: Tensor = model.head(scaled)
        return -logits.logsumexp(1).cpu()

    return score


def _observe(model: Classifier, inputs: Tensor) -> tuple[Tensor, Tensor]:
    """(B, D) features of raw inputs, and (B,) how they answer a step where the input is idle."""
    with torch.enable_grad():
        x = ((as_float(inputs) - model.mean) / model.std).requires_grad_()
        features = model.features(x)
        (gradient,) = torch.autograd.grad(model.head(features).max(1).values.sum(), x)
    with torch.no_grad():
        step = STEP * gradient.sign() * _smallest(gradient.abs(), PIXELS)
        after = model.features(x + step)
        largest = features.topk(_count(VALUE_SHARE, features), dim=1).indices
        shifts = (after - features).abs().gather(1, largest[:, : _count(SHIFT_SHARE, features)])
        values = after.relu().gather(1, largest)
    return features.detach(), SHIFT_WEIGHT * shifts.sum(1) + values.sum(1)


def _scale(features: Tensor, percentile: Tensor) -> Tensor:
    """(B, D) features, (B,) percentiles -> (B, 1) the factor exp(sum / sum of those above)."""
    width = features.shape[1]
    sums = features.relu().sort(dim=1, descending=True).values.cumsum(1)
    above = (width - (width * percentile / 100).round().long()).clamp_min(1)
    carried = sums.gather(1, above[:, None] - 1).clamp_min(torch.finfo(sums.dtype).tiny)
    return (sums[:, -1:] / carried).exp()


def _smallest(values: Tensor, share: float) -> Tensor:
    """1 for this share of the entries of each input that are smallest, 0 for the others."""
    flat = values.flatten(1)
    chosen = flat.topk(_count(share, flat), dim=1, largest=False).indices
    return torch.zeros_like(flat).scatter(1, chosen, 1.0).view_as(values)


def _count(share: float, rows: Tensor) -> int:
    return max(1, int(share * rows.shape[1]))  # the authors' networks are wide enough
