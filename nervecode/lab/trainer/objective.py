"""Objective: what a training minimises, the task's loss and the price of the codes beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nervecode.errors import InputError
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import NO_LOSS, TrainConfig
from nervecode.lab.trainer.forward import FEATURES, ForwardPass, Layers, layers_of
from nervecode.lab.trainer.registry import CODING_LOSSES, LOSSES
from nervecode.scoring import stack_layers


class Objective(nn.Module):
    """Task loss + coding_weight * coding loss, each a mean over a batch.

    The coding loss is the mean surprise of the learned signals, and the config's loss in bits.

    Args:
        config: names both losses.
        model: the classifier that is trained.
        world: how many processes train together.

    Attributes:
        reads: loss -> the layers that it reads.
        layers: those that the loss in bits prices; none, where it prices logits.

    Raises:
        InputError: a loss of a whole batch, whose parts are on several processes; or a selector of
            layers that matches nothing.
    """

    def __init__(self, config: TrainConfig, model: Classifier, *, world: int = 1) -> None:
        super().__init__()
        self.task = LOSSES[config.loss](model.head, **config.loss_options)
        self.bits: nn.Module | None = None
        self.reads: dict[str, Layers] = {}
        if self.task.reads_features:
            self.reads[f"train.loss: {config.loss}"] = layers_of(model, FEATURES)
        whole = [f"train.loss: {config.loss}"] * self.task.whole_batch
        self.layers: tuple[str, ...] = ()
        if config.coding_loss != NO_LOSS:
            self.bits = CODING_LOSSES[config.coding_loss]()
            key = f"train.coding_loss: {config.coding_loss}"
            if CODING_LOSSES[config.coding_loss].reads == "layers":
                self.reads[key] = layers_of(model, config.coding_layers)
                self.layers = tuple(self.reads[key])
            whole.append(key)
        if whole and world > 1:
            raise InputError(
                f"{' and '.join(whole)}: found {world} processes, allowed: 1, since the loss is "
                "that of a whole batch"
            )

    def forward(self, seen: ForwardPass, labels: Tensor) -> tuple[Tensor, Tensor]:
        """() task loss in nats, and () coding loss, of a batch, which may be empty."""
        task = self.task(seen, labels) if len(labels) else seen.logits.sum()
        return task, self._coding(seen, labels)

    def _coding(self, seen: ForwardPass, labels: Tensor) -> Tensor:
        total: Tensor = torch.zeros((), device=labels.device)
        for layers in seen.traces.values():
            surprise = stack_layers(layers)
            total = total + (surprise.mean() if surprise.numel() else surprise.sum())
        if self.bits is None:
            return total
        read: Tensor | dict[str, Tensor] = seen.logits
        if self.layers:  # a frozen network whose features are kept shows none, and would not move
            read = {name: seen.vectors[name] for name in self.layers if name in seen.vectors}
        return total + self.bits(read, labels) if len(read) else total
