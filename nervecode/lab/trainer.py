"""Trainer: task loss plus coding loss, an epoch at a time."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.core import CodingTrace
from nervecode.errors import NervecodeError
from nervecode.lab.augment import augment
from nervecode.lab.data import Samples
from nervecode.lab.device import choose_dtype
from nervecode.lab.models import Classifier
from nervecode.lab.progress import Progress
from nervecode.lab.schema import TrainConfig
from nervecode.layers import WrappedModel
from nervecode.scoring import stack_layers
from nervecode.training import DiagnosticsCollector

Row = dict[str, Any]


class Trainer:
    """One classifier in training. Data stay in memory; figures reach the CPU once an epoch."""

    def __init__(
        self,
        model: Classifier,
        signals: Mapping[str, WrappedModel],
        config: TrainConfig,
        train: Samples,
        *,
        seed: int,
        device: torch.device,
    ) -> None:
        # Convolutions of channels-last images are the quicker ones, on CPU and CUDA.
        self.model = model.to(memory_format=torch.channels_last)
        self.signals, self.config = signals, config
        self.dtype = choose_dtype(config.precision, device)
        self.forward: nn.Module = torch.compile(model) if config.compile else model  # type: ignore[assignment]
        self.inputs, self.labels = train.inputs.to(device), train.labels.to(device)
        self.random = torch.Generator().manual_seed(seed)
        self.steps_per_epoch = -(-len(train) // config.batch_size)
        for wrapped in signals.values():
            wrapped.coders.to(device)
            self._materialise(wrapped)
        self.optimizer = _optimizer(config, model, signals)
        self.schedule = _schedule(config, self.optimizer, self.steps_per_epoch)
        self.diagnostics = DiagnosticsCollector()
        self.layer_rows: list[Row] = []

    def epoch(self, number: int, progress: Progress) -> Row:
        """Train one epoch; returns its row of metrics."""
        self.model.train()
        began = time.perf_counter()
        rate = self.optimizer.param_groups[0]["lr"]
        steps = []
        for index in self._order():
            steps.append(self.step(index))
            progress.advance()
        sums = torch.stack(steps)  # (steps, 3), on the device until now
        _check_finite(sums[:, :2].sum(1) / self.config.batch_size, f"epoch {number}", rate)
        count = len(self.inputs)
        task, coding, right = (sums.sum(0) / count).tolist()
        loss = task + self.config.coding_weight * coding
        progress.advance(0, loss=loss, accuracy=right)
        self.layer_rows += self.diagnostics.rows(epoch=number)
        return {
            "epoch": number,
            "loss": loss,
            "task_loss": task,
            "coding_loss": coding,
            "accuracy": right,
            "lr": rate,
            "samples_per_second": count / (time.perf_counter() - began),
        }

    def step(self, index: Tensor) -> Tensor:
        """One step; returns sums over the batch: task loss, coding loss, right answers."""
        x = augment(self.inputs[index], self.config.augment, self.random)
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        y = self.labels[index]
        with ExitStack() as stack:
            stack.enter_context(self._autocast())
            traces = {n: stack.enter_context(w.recording()) for n, w in self.signals.items()}
            logits = self.forward(x)
        task = F.cross_entropy(logits.float(), y)
        coding = self._coding_loss(traces)
        self.optimizer.zero_grad(set_to_none=True)
        (task + self.config.coding_weight * coding).backward()
        self.optimizer.step()
        self.schedule.step()
        right = (logits.argmax(1) == y).sum()
        return torch.stack([task.detach() * len(y), coding.detach() * len(y), right]).double()

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.inputs.device.type, self.dtype, enabled=self.dtype is not torch.float32
        )

    def _coding_loss(self, traces: Mapping[str, Mapping[str, CodingTrace]]) -> Tensor:
        """The mean surprise over layers, summed over learned signals; 0 without any."""
        total = torch.zeros((), device=self.inputs.device)
        for name, layers in traces.items():
            total = total + stack_layers(layers).mean()
            self.diagnostics.update({f"{name}:{layer}": t for layer, t in layers.items()})
        return total

    def _order(self) -> Iterator[Tensor]:
        order = torch.randperm(len(self.inputs), generator=self.random).to(self.inputs.device)
        return iter(order.split(self.config.batch_size))

    def _materialise(self, wrapped: WrappedModel) -> None:
        """One batch through the model, so that a projection of unknown width gets its weights."""
        self.model.eval()
        with torch.no_grad(), wrapped.recording():
            self.model(self.inputs[:2])


def _check_finite(losses: Tensor, epoch: str, rate: float) -> None:
    """Refuse (steps,) losses that are not all finite, naming the first that is not."""
    bad = (~losses.isfinite()).nonzero()
    if len(bad):
        step = int(bad[0])
        last = f"{float(losses[step - 1]):.4g}" if step else "none in this epoch"
        raise NervecodeError(
            f"training: the loss is {float(losses[step])} in {epoch}, step {step + 1} of "
            f"{len(losses)}, at learning rate {rate:.3g} (last finite loss: {last}); try a "
            "smaller train.learning_rate"
        )


def _optimizer(
    config: TrainConfig, model: nn.Module, signals: Mapping[str, WrappedModel]
) -> torch.optim.Optimizer:
    codes = [p for wrapped in signals.values() for p in wrapped.coders.parameters()]
    groups: list[dict[str, Any]] = [
        {"params": list(model.parameters())},
        # Decay would pull all centres of a codebook into one point.
        {"params": codes, "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    decay = config.weight_decay
    if config.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=decay)
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=decay,
        nesterov=config.momentum > 0,
    )


def _schedule(
    config: TrainConfig, optimizer: torch.optim.Optimizer, steps_per_epoch: int
) -> torch.optim.lr_scheduler.LRScheduler:
    if config.schedule == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
    steps = config.epochs * steps_per_epoch
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
