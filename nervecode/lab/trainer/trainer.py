"""Trainer: task loss plus coding loss, an epoch at a time."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from itertools import accumulate, pairwise
from typing import Any

import torch
from torch import Tensor

from nervecode.errors import NervecodeError
from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.device import choose_dtype, tensor_cores
from nervecode.lab.machine.interrupt import Stopping
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.ranks.job import current
from nervecode.lab.schema import TrainConfig
from nervecode.lab.trainer.augment import Augmentation, check_augment
from nervecode.lab.trainer.batches import batch_sizes
from nervecode.lab.trainer.forward import FEATURES, Coded, ForwardPass, build_forward
from nervecode.lab.trainer.frozen import freeze, frozen_features, is_frozen
from nervecode.lab.trainer.objective import Objective
from nervecode.lab.trainer.optimizer import build_optimizer, build_schedule
from nervecode.lab.trainer.revive import DRAWN, revive
from nervecode.layers import WrappedModel
from nervecode.training import DiagnosticsCollector

Row = dict[str, Any]


class Diverged(NervecodeError):
    """A training whose loss or weights became NaN or infinite."""


class Trainer:
    """One classifier in training. Data stay on the device; figures reach the CPU once an epoch.

    Where several processes train together, each takes its part of every batch; batch size, order
    and augmentation are those of the whole job, and so are the figures.

    What the next step depends on is in `model`, `signals`, `objective`, `optimizer`, `schedule`,
    the global random states, and here:

    Attributes:
        sizes: of the batches of an epoch.
        start: state of the trainer's own random generator when the epoch began.
        rate: learning rate when the epoch began.
        done: what `step` returned for each step of the epoch so far; the sum over ranks counts.
        diagnostics: sums over the same steps.
        kept: (N, D) features of all inputs, while the network that gives them is frozen and
            nothing else reads or changes what it is given; None elsewhere.
        revived: signals whose dead codes are put on inputs after each epoch.
        share: size of this rank's part of the batch over the mean of all parts. Weighted by it,
            gradients that are averaged over ranks are those of the mean over the whole batch.
    """

    def __init__(
        self,
        model: Classifier,
        signals: Mapping[str, WrappedModel],
        config: TrainConfig,
        train: Samples,
        *,
        seed: int,
        device: torch.device,
        revived: Collection[str] = (),
    ) -> None:
        # Convolutions of channels-last images are the quicker ones, on CPU and CUDA.
        self.model = model.to(memory_format=torch.channels_last)
        self.job = current()
        self.signals, self.config, self.revived = signals, config, revived
        self.dtype = choose_dtype(config.precision, device)
        check_augment(config.augment, train.inputs)
        self.inputs, self.labels = train.inputs.to(device), train.labels.to(device)
        self.random = torch.Generator().manual_seed(seed)
        self.sizes = batch_sizes(model, config, self.inputs)
        self.steps_per_epoch = len(self.sizes)
        for wrapped in signals.values():
            wrapped.coders.to(device)
            self._materialise(wrapped)
        self.objective = Objective(config, model, world=self.job.world).to(device)
        self.coded = Coded(model, signals, self.objective.reads)
        together = self.job.world > 1
        self.forward = build_forward(self.coded, compiled=config.compile, together=together)
        self.optimizer = build_optimizer(
            config, model, self.objective, signals, fused=device.type == "cuda"
        )
        self.schedule = build_schedule(config, self.optimizer, self.steps_per_epoch)
        self.diagnostics = DiagnosticsCollector()
        self.layer_rows: list[Row] = []
        self.share = 1.0
        self.done: list[Tensor] = []
        self.kept: Tensor | None = None
        self._begin()

    def epoch(
        self, number: int, progress: Progress, stopping: Stopping = lambda: False
    ) -> Row | None:
        """Train what is left of an epoch; returns its row of metrics.

        None where `stopping` said so after a step: another call goes on with the next step.

        Raises:
            Diverged: a loss or a weight became NaN or infinite.
        """
        self.prepare(number, progress)
        began, before = time.perf_counter(), len(self.done)
        with tensor_cores(self.inputs.device), self.job.answering():
            for index, augmentation in self._batches()[before:]:
                part = self.job.shard(len(index))
                self.share = (part.stop - part.start) * self.job.world / len(index)
                self.done.append(self.step(index[part], augmentation[part]))
                progress.advance()
                if stopping() and len(self.done) < self.steps_per_epoch:
                    return None
        self.pool(keep=True)
        row = self._row(number)
        if number < self.config.epochs:  # what is put anew after the last would learn nothing
            self._revive()
        trained = sum(self.sizes[before:])
        self.layer_rows += self.diagnostics.rows(epoch=number)
        self._begin()
        return {**row, "samples_per_second": trained / (time.perf_counter() - began)}

    def _revive(self) -> None:
        """Put codes that no input of the epoch was nearest to on inputs; the same on all ranks."""
        if not self.revived or self.kept is not None:
            return
        index = torch.randint(len(self.inputs), (DRAWN,), generator=self.random)
        self.model.eval()
        with torch.no_grad():
            traces = self.coded(self.inputs[index.to(self.inputs.device)]).traces
        for name in self.revived:
            used = {layer: self.diagnostics.used(f"{name}:{layer}") for layer in traces[name]}
            revive(self.signals[name], traces[name], used, self.random)

    def pool(self, *, keep: bool) -> None:
        """Take the sums over ranks for this rank's own, or zeros, since others keep them."""
        if self.job.world == 1:
            return
        if self.done:
            self.done = list(self.job.sum(torch.stack(self.done)) * float(keep))
        sums = self.diagnostics.state_dict()
        pooled = {name: self.job.sum(tensor) * float(keep) for name, tensor in sums.items()}
        self.diagnostics.load_state_dict(pooled)

    def _begin(self) -> None:
        self.start = self.random.get_state()
        self.rate: float = self.optimizer.param_groups[0]["lr"]
        self.done = []

    def _batches(self) -> list[tuple[Tensor, Augmentation]]:
        """Order and augmentation of an epoch, drawn and copied to the device at once."""
        count, device = len(self.inputs), self.inputs.device
        self.random.set_state(self.start)
        order = torch.randperm(count, generator=self.random).to(device)
        drawn = Augmentation.draw(self.config.augment, count, generator=self.random, device=device)
        parts = [slice(*ends) for ends in pairwise(accumulate(self.sizes, initial=0))]
        return [(order[part], drawn[part]) for part in parts]

    def step(self, index: Tensor, augmentation: Augmentation) -> Tensor:
        """One step; returns (3,) sums over the batch: task loss, coding loss, right answers.

        The batch may be empty: the part of a rank for which none was left.
        """
        y = self.labels[index]
        with self._autocast():
            seen = self._forward(index, augmentation).widened()
        task, coding = self.objective(seen, y)
        for name, layers in seen.traces.items():
            self.diagnostics.update({f"{name}:{layer}": t for layer, t in layers.items()})
        self.optimizer.zero_grad(set_to_none=True)
        self.job.tick()  # gradients are averaged within
        (self.share * (task + self.config.coding_weight * coding)).backward()
        self.optimizer.step()
        self.objective.task.settle()
        self.schedule.step()
        right = (seen.logits.argmax(1) == y).sum()
        return torch.stack([task.detach() * len(y), coding.detach() * len(y), right]).double()

    def _forward(self, index: Tensor, augmentation: Augmentation) -> ForwardPass:
        if self.kept is not None:
            features = self.kept[index]
            return ForwardPass(self.model.head(features), {FEATURES: features}, {})
        x = augmentation(self.inputs[index])
        if x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        return self.forward(x)

    def _row(self, number: int) -> Row:
        """The epoch's figures, once they are known to be finite."""
        sums = torch.stack(self.done).cpu()  # (steps, 3), on the device until now
        losses = (sums[:, 0] + self.config.coding_weight * sums[:, 1]) / torch.tensor(self.sizes)
        check_finite(losses, self._tensors(), f"epoch {number}", self.rate)
        task, coding, right = (sums.sum(0) / len(self.inputs)).tolist()
        return {
            "epoch": number,
            "loss": task + self.config.coding_weight * coding,
            "task_loss": task,
            "coding_loss": coding,
            "accuracy": right,
            "lr": self.rate,
        }

    def _tensors(self) -> list[Tensor]:
        parts = [self.model, *(wrapped.coders for wrapped in self.signals.values())]
        return [t.detach() for m in parts for t in m.state_dict().values() if t.is_floating_point()]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(
            self.inputs.device.type, self.dtype, enabled=self.dtype is not torch.float32
        )

    def _materialise(self, wrapped: WrappedModel) -> None:
        """One batch through the model, so that a projection of unknown width gets its weights."""
        self.model.eval()
        with torch.no_grad(), wrapped.recording():
            self.model(self.inputs[:2])

    def prepare(self, epoch: int, progress: Progress) -> None:
        """Set the mode of an epoch, and make the features that it keeps, once."""
        self.set_mode(epoch=epoch)
        if self.kept is None and self.keeps_features(epoch):
            self.keep_features(progress)

    def set_mode(self, *, epoch: int) -> None:
        """Training mode; for the head alone where the rest is frozen, whose norms stay as well."""
        changed = freeze(self.model, frozen=is_frozen(self.config, epoch))
        if changed and self.job.world > 1:  # which gradients are averaged is settled when made
            self.forward = build_forward(self.coded, compiled=False, together=True)
        if not self.keeps_features(epoch):
            self.kept = None

    def keeps_features(self, epoch: int) -> bool:
        """Whether the features that an epoch sees are those of any other with the same weights.

        So it is of a frozen network, where nothing else reads or changes its inputs.
        """
        alike = self.config.augment == "none" and not self.signals and self.job.world == 1
        return alike and is_frozen(self.config, epoch)

    def keep_features(self, progress: Progress, count: int | None = None) -> None:
        """Make the features of the first `count` inputs; of all for None."""
        with self._autocast():
            inputs = self.inputs[:count]
            self.kept = frozen_features(self.model, inputs, self.config.batch_size, progress)


def check_finite(losses: Tensor, weights: list[Tensor], epoch: str, rate: float) -> None:
    """Refuse (steps,) losses of an epoch that are not all finite, or weights after it.

    Raises:
        Diverged: names the step, the learning rate and the last finite loss.
    """
    bad = (~losses.isfinite()).nonzero()
    step = int(bad[0]) if len(bad) else len(losses)
    if step < len(losses):
        what = f"the loss is {float(losses[step])} in {epoch}, step {step + 1} of {len(losses)}"
    elif all(torch.stack([tensor.isfinite().all() for tensor in weights]).tolist()):
        return
    else:
        what = f"a weight is NaN or infinite after {epoch}, step {step} of {len(losses)}"
    last = f"{float(losses[step - 1]):.4g}" if step else "none in this epoch"
    raise Diverged(
        f"training: {what}, at learning rate {rate:.3g} (last finite loss: {last}); try a "
        "smaller train.learning_rate"
    )
