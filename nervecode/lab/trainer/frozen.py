"""Frozen: the features of a network that stays as it is, which every epoch would give again."""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.lab.data.samples import as_float
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import TrainConfig


def is_frozen(config: TrainConfig, epoch: int) -> bool:
    """Whether an epoch, counted from 1, trains the head alone."""
    return config.freeze == "backbone" or epoch <= config.freeze


def freeze(model: Classifier, *, frozen: bool) -> bool:
    """Training mode, of the head alone where the rest is frozen, whose norms stay as well.

    Returns:
        Whether parameters became trainable, or ceased to be.
    """
    model.train(not frozen)
    model.head.train()
    own = set(model.head.parameters())
    changed = [p for p in model.parameters() if p not in own and p.requires_grad == frozen]
    for parameter in changed:
        parameter.requires_grad_(not frozen)
        parameter.grad = None
    return bool(changed)


def frozen_features(
    model: Classifier, inputs: Tensor, batch_size: int, progress: Progress
) -> Tensor:
    """(N, *shape) raw inputs -> (N, D) features, without gradients."""
    batches, parts = inputs.split(batch_size), []
    with torch.no_grad():
        for part in progress.track("features", batches, len(batches)):
            x = (as_float(part) - model.mean) / model.std
            if x.ndim == 4:
                x = x.contiguous(memory_format=torch.channels_last)
            parts.append(model.features(x))
    return torch.cat(parts)
