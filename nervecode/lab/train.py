"""The stage `train`: a classifier, and the codebooks that are learned with it."""

from __future__ import annotations

import csv
import io
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.core import CodingTrace
from nervecode.errors import NervecodeError
from nervecode.lab.augment import augment
from nervecode.lab.checkpoint import FORMAT
from nervecode.lab.data import Samples, Splits
from nervecode.lab.files import read_json, replacing, sha256, write_json, write_text
from nervecode.lab.models import Classifier, build_model
from nervecode.lab.progress import Progress
from nervecode.lab.run import RunDir
from nervecode.lab.schema import Config, TrainConfig
from nervecode.lab.signals import build_signals
from nervecode.layers import WrappedModel
from nervecode.layers.storage import pack
from nervecode.scoring import stack_layers
from nervecode.training import DiagnosticsCollector

Row = dict[str, Any]


def train_seed(
    run: RunDir, splits: Splits, seed: int, *, device: torch.device, progress: Progress
) -> bool:
    """Train one seed of a run, or skip it if it is done; returns whether it was done now."""
    config = run.config
    learned = {n: s.model_dump() for n, s in config.signals.items() if s.recipe == "v0_1_1"}
    sections = config.model_dump(mode="json", include={"data", "model", "train"})
    inputs = {**sections, "signals": learned, "seed": seed}

    def work() -> list[Path]:
        model, signals, epochs, layers = fit_classifier(
            config, splits, seed, device=device, progress=progress
        )
        _write_csv(run.metrics(seed), epochs)
        _write_checkpoint(run, seed, model, signals, epochs[-1])
        written = [run.metrics(seed), run.checkpoint(seed)]
        if layers:
            _write_csv(run.diagnostics(seed), layers)
            written.append(run.diagnostics(seed))
        return written

    return run.stage("train", seed, inputs, work)


def fit_classifier(
    config: Config, splits: Splits, seed: int, *, device: torch.device, progress: Progress
) -> tuple[Classifier, dict[str, WrappedModel], list[Row], list[Row]]:
    """Task loss plus coding loss; returns model, learned signals, epoch rows, layer rows.

    Raises:
        NervecodeError: the loss became NaN or infinite.
    """
    torch.manual_seed(seed)
    model = build_model(config.model, splits.train, splits.num_classes).to(device)
    signals = build_signals(config, model, recipe="v0_1_1")
    trainer = Trainer(model, signals, config.train, splits.train, seed=seed, device=device)
    steps = trainer.steps_per_epoch * config.train.epochs
    progress.start(f"train seed {seed}", steps)
    epochs = [trainer.epoch(number, progress) for number in range(1, config.train.epochs + 1)]
    return model, signals, epochs, trainer.layer_rows


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
        self.model, self.signals, self.config = model, signals, config
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
        sums = torch.zeros(3, dtype=torch.float64, device=self.inputs.device)
        for index in self._order():
            sums += self.step(index)
            progress.advance()
        count = len(self.inputs)
        task, coding, right = (sums / count).tolist()
        loss = task + self.config.coding_weight * coding
        if not loss < float("inf"):
            raise NervecodeError(
                f"training: the loss is {loss} in epoch {number} at learning rate {rate:.3g}; "
                "try a smaller train.learning_rate"
            )
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
        y = self.labels[index]
        with ExitStack() as stack:
            traces = {n: stack.enter_context(w.recording()) for n, w in self.signals.items()}
            logits = self.model(x)
        task = F.cross_entropy(logits, y)
        coding = self._coding_loss(traces)
        self.optimizer.zero_grad(set_to_none=True)
        (task + self.config.coding_weight * coding).backward()
        self.optimizer.step()
        self.schedule.step()
        right = (logits.argmax(1) == y).sum()
        return torch.stack([task.detach() * len(y), coding.detach() * len(y), right]).double()

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


def _write_checkpoint(
    run: RunDir, seed: int, model: Classifier, signals: Mapping[str, WrappedModel], last: Row
) -> None:
    tensors = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
    header: dict[str, Any] = {"signals": {}}
    for name, wrapped in signals.items():
        header["signals"][name], parts = pack(wrapped)
        tensors |= {f"signals.{name}.{key}": tensor for key, tensor in parts.items()}
    path = run.checkpoint(seed)
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata={"format": FORMAT, "header": json.dumps(header)})
    manifest_path = path.parent / "checkpoint_manifest.json"
    manifest = read_json(manifest_path) if manifest_path.exists() else {}
    manifest[path.name] = {
        "sha256": sha256(path),
        "bytes": path.stat().st_size,
        "seed": seed,
        "epochs": last["epoch"],
        "train_accuracy": last["accuracy"],
    }
    write_json(manifest_path, manifest)


def _write_csv(path: Path, rows: list[Row]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
