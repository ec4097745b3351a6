"""A dry run: everything is built, one batch is trained, and nothing is written."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.features import extract
from nervecode.lab.models.signals import build_signals
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import PRIMARY, Config
from nervecode.lab.stages.bench import prepare
from nervecode.lab.trainer.augment import Augmentation
from nervecode.lab.trainer.build import build_trainer
from nervecode.lab.trainer.frozen import is_frozen
from nervecode.lab.trainer.trainer import Trainer

STEPS = 3


@dataclass(frozen=True)
class Estimate:
    """What a run would take.

    Attributes:
        parameters: of the classifier.
        layers: watched by the primary signal.
        split_sizes: inputs per split.
        train_seconds: training of all seeds, from the time of a few steps with a frozen network
            and without, and of a batch of the features that are kept of it.
        memory_mb: data, and weights with gradients and optimiser state.
        disk_mb: checkpoints, codes, features and scores of all seeds.
        remarks: what a user should know of the data and of the weights.
    """

    device: str
    parameters: int
    layers: tuple[str, ...]
    split_sizes: dict[str, int]
    train_seconds: float
    memory_mb: float
    disk_mb: float
    remarks: tuple[str, ...]


def dry_run(config: Config, run: RunDir | None = None) -> Estimate:
    """Build data, model and signals of a config, run a few steps, and estimate.

    Args:
        config: what is wanted.
        run: that is to go on with it; None where there will be a new one.

    Raises:
        NervecodeError: as `prepare`.
    """
    prepared = prepare(config, run)
    splits = prepared.splits
    trainer = build_trainer(config, splits, config.seeds[0], device=prepared.device)
    model = trainer.model
    signals = {**trainer.signals, **build_signals(config, model, recipe="bits")}
    seconds = _seconds_per_seed(trainer) * len(config.seeds)
    parameters = sum(p.numel() for p in model.parameters())
    parts = {"id_train": splits.train, **splits.evaluated()}
    data_bytes = sum(part.inputs.nbytes for part in parts.values())
    samples = sum(map(len, parts.values()))
    kept = _bytes_per_sample(model, splits.train) * samples
    return Estimate(
        device=str(prepared.device),
        parameters=parameters,
        layers=signals[PRIMARY].layer_names,
        split_sizes={name: len(part) for name, part in parts.items()},
        train_seconds=seconds,
        memory_mb=(data_bytes + 16 * parameters) / 1e6,
        disk_mb=len(config.seeds) * (4 * parameters + kept) / 1e6,
        remarks=(*filter(None, [prepared.remark]), *splits.remarks),
    )


def _bytes_per_sample(model: Classifier, train: Samples) -> int:
    """What is kept of one input: its logits, features and means of blocks."""
    seen = extract(model, train[:1], title="dry run", progress=Progress())
    return sum(tensor.nbytes for tensor in (seen.logits, seen.features, *seen.blocks))


def _seconds_per_seed(trainer: Trainer) -> float:
    """Of the training of one seed."""
    epochs, size = trainer.config.epochs, min(trainer.config.batch_size, len(trainer.inputs))
    frozen = sum(is_frozen(trainer.config, epoch) for epoch in range(1, epochs + 1))
    seconds = 0.0
    for first, count in ((1, frozen), (frozen + 1, epochs - frozen)):
        if not count:
            continue
        trainer.set_mode(epoch=first)
        if trainer.keeps_features(first):
            began = time.perf_counter()
            trainer.keep_features(Progress(), size)
            seconds += (time.perf_counter() - began) * len(trainer.inputs) / size
        seconds += _seconds_per_step(trainer, size) * trainer.steps_per_epoch * count
    return seconds


def _seconds_per_step(trainer: Trainer, size: int) -> float:
    """The median of a few training steps with as many inputs, after one to warm up."""
    index = torch.arange(size, device=trainer.inputs.device)
    drawn = Augmentation.draw(
        trainer.config.augment, len(index), generator=trainer.random, device=index.device
    )
    times = []
    for _ in range(STEPS + 1):
        began = time.perf_counter()
        trainer.step(index, drawn).sum().item()
        times.append(time.perf_counter() - began)
    return sorted(times[1:])[STEPS // 2]
