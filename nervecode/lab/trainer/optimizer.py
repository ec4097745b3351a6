"""The optimiser and the schedule that a config names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from nervecode.lab.schema import TrainConfig
from nervecode.layers import WrappedModel


def build_optimizer(
    config: TrainConfig,
    model: nn.Module,
    objective: nn.Module,
    signals: Mapping[str, WrappedModel],
    *,
    fused: bool,
) -> torch.optim.Optimizer:
    """SGD or AdamW over a model, what its loss learns beside it, and its learned codebooks.

    Fused is the quicker one on CUDA.
    """
    codes = [p for wrapped in signals.values() for p in wrapped.coders.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": [*model.parameters(), *objective.parameters()]},
        # Decay would pull all centres of a codebook into one point.
        {"params": codes, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    decay = config.weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=decay, fused=fused)
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=decay,
        nesterov=config.momentum > 0,
        fused=fused,
    )


def build_schedule(
    config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate after each step: constant, or half a cosine down to zero."""
    if config.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    steps = config.epochs * steps_per_epoch
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
