#!/usr/bin/env python
"""What the training loop costs beside a bare PyTorch loop over tensors in memory.

    python scripts/bench_train.py [--threads 1] [--rounds 15] [--device cpu]

Each row times a few steps of the bare loop and of ours in turn, A B A B …, and prints the ratio
of the medians; on a CPU in CPU time, since cores may be shared. On CUDA an epoch of 50,000
images follows, beside its floor: the floating-point operations of the network over the measured
rate of bfloat16 matrix products.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from nervecode.lab.data.samples import Samples
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import ModelConfig, TrainConfig
from nervecode.lab.trainer.trainer import Trainer
from nervecode.layers import WrappedModel, wrap

BATCH = 128
STEPS = 2  # in a round
EPOCH = 50_000
MATRIX = 8192


def samples(count: int) -> Samples:
    """Random images in ten classes, as bytes."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (count, 3, 32, 32), generator=generator, dtype=torch.uint8)
    return Samples(images, torch.randint(10, (count,), generator=generator))


def classifier(width: int, data: Samples, device: torch.device) -> Classifier:
    """ResNet-18 for 32x32 inputs, with the same weights each time."""
    torch.manual_seed(0)
    return build_model(ModelConfig(name="resnet18", width=width), data, 10).to(device)


def bare_epoch(model: nn.Module, x: Tensor, y: Tensor) -> Callable[[], object]:
    """An epoch as a tutorial writes it: float images in memory, SGD with momentum."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    model.to(memory_format=torch.channels_last).train()
    x = x.contiguous(memory_format=torch.channels_last)

    def run() -> None:
        for index in torch.randperm(len(x), device=x.device).split(BATCH):
            loss = F.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

    return run


def our_epoch(
    model: Classifier, data: Samples, device: torch.device, *, coding: bool, **options: object
) -> Callable[[], object]:
    """The same by the laboratory's trainer; with the coding loss of every block if asked for."""
    signals: dict[str, WrappedModel] = {"nervecode": wrap(model)} if coding else {}
    config = TrainConfig(epochs=10_000, batch_size=BATCH, **options)
    trainer = Trainer(model, signals, config, data, seed=0, device=device)
    return lambda: trainer.epoch(1, Progress())


def compare(
    bare: Callable[[], object], ours: Callable[[], object], rounds: int, wait: Callable[[], object]
) -> tuple[float, float, float]:
    """(seconds of the bare loop, of ours, the ratio), medians; the two take turns."""
    times: list[tuple[float, float]] = []
    for index in range(rounds + 2):
        pair = (seconds(bare, wait), seconds(ours, wait))
        if index >= 2:  # two rounds to warm up
            times.append(pair)
    medians = [statistics.median(column) for column in zip(*times, strict=True)]
    return medians[0], medians[1], medians[1] / medians[0]


def seconds(work: Callable[[], object], wait: Callable[[], object]) -> float:
    """How long a piece of work takes, all of it done."""
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    wait()
    began = clock()
    work()
    wait()
    return clock() - began


def steps_table(device: torch.device, rounds: int, wait: Callable[[], object], width: int) -> None:
    """The rows of docs/training.md: our loop over the bare one."""
    data = samples(STEPS * BATCH)
    x, y = data.inputs.to(device).float() / 255, data.labels.to(device)
    print("| loop | bare ms/step | ours ms/step | ratio |\n| --- | ---: | ---: | ---: |")
    for name, options in {
        "plain": {"coding": False},
        "crops and mirror images": {"coding": False, "augment": "crop_flip"},
        "coding loss of eight blocks": {"coding": True},
    }.items():
        bare = bare_epoch(classifier(width, data, device), x, y)
        ours = our_epoch(classifier(width, data, device), data, device, **options)
        one, other, ratio = compare(bare, ours, rounds, wait)
        shown = f"{1e3 * one / STEPS:.1f} | {1e3 * other / STEPS:.1f} | {ratio:.3f}"
        print(f"| {name} | {shown} |", flush=True)


def epoch_table(device: torch.device, width: int, wait: Callable[[], object]) -> None:
    """An epoch of 50,000 images beside its floor."""
    data = samples(EPOCH)
    model = classifier(width, data, device)
    with FlopCounterMode(display=False) as counter:
        F.cross_entropy(
            model(data.inputs[:BATCH].to(device)), data.labels[:BATCH].to(device)
        ).backward()
    rate = matrix_rate(device, wait)
    floor = counter.get_total_flops() / BATCH * EPOCH / rate
    print(f"bfloat16 matrix products: {rate / 1e12:.0f} TFLOP/s; floor of an epoch {floor:.3f} s")
    print("| epoch of 50,000 | s | over the floor |\n| --- | ---: | ---: |")
    for name, options in {
        "bfloat16": {"coding": False},
        "bfloat16, coding": {"coding": True},
        "bfloat16, compiled": {"coding": False, "compile": True},
        "bfloat16, compiled, coding": {"coding": True, "compile": True},
    }.items():
        ours = our_epoch(
            classifier(width, data, device), data, device,
            precision="bfloat16", augment="crop_flip", **options,
        )  # fmt: skip
        ours()
        took = statistics.median(seconds(ours, wait) for _ in range(3))
        print(f"| {name} | {took:.2f} | {took / floor:.2f} |", flush=True)


def matrix_rate(device: torch.device, wait: Callable[[], object]) -> float:
    """Floating-point operations a second of a large bfloat16 product."""
    a, b = (torch.randn(MATRIX, MATRIX, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = [seconds(lambda: a @ b, wait) for _ in range(20)]
    return 2 * MATRIX**3 / statistics.median(times[5:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--width", type=int, help="default: 16 on a CPU, 64 on CUDA")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    device = torch.device(given.device)
    wait = torch.cuda.synchronize if device.type == "cuda" else (lambda: None)
    width = given.width or (64 if device.type == "cuda" else 16)
    print(f"torch {torch.__version__}, {device}, {given.threads} threads")
    print(f"ResNet-18 width {width}, batch {BATCH}, 3x32x32")
    steps_table(device, given.rounds, wait, width)
    if device.type == "cuda":
        epoch_table(device, width, wait)


if __name__ == "__main__":
    main()
