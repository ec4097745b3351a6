"""The trainer of a config: a fresh classifier, its learned signals, and all that trains them."""

from __future__ import annotations

import torch

from nervecode.lab.data.splits import Splits
from nervecode.lab.machine.device import seed_everything
from nervecode.lab.models.build import build_model
from nervecode.lab.models.signals import build_signals
from nervecode.lab.models.weights import begin
from nervecode.lab.ranks.batch_norm import normalise_together
from nervecode.lab.ranks.job import current
from nervecode.lab.schema import Config
from nervecode.lab.trainer.trainer import Trainer


def build_trainer(config: Config, splits: Splits, seed: int, *, device: torch.device) -> Trainer:
    """A classifier and learned signals at the start of their training, all drawn from one seed."""
    seed_everything(seed)
    model = build_model(config.model, splits.train, splits.num_classes)
    begin(config.model, model)
    normalise_together(model.to(device))
    signals = build_signals(config, model, recipe="v0_1_1")
    revived = [name for name in signals if config.signals[name].revive]
    trainer = Trainer(
        model, signals, config.train, splits.train, seed=seed, device=device, revived=revived
    )
    if rank := current().rank:
        torch.manual_seed(seed + (rank << 32))  # of dropout: each rank draws its own
    return trainer
