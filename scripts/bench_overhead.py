#!/usr/bin/env python
"""What coding costs: ratios of the wrapped to the bare model, interleaved in one run.

    python scripts/bench_overhead.py [--threads 2] [--rounds 15] [--device cpu]

Each row times bare and wrapped in turn, A B A B …, and prints the ratio of the medians.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nervecode
from nervecode.lab.models.resnet import BasicBlock, ResNet
from nervecode.layers import WrappedModel

CLASSES = 10
FIT_BATCHES = 6


@dataclass(frozen=True)
class Row:
    """One line of the table: what runs, and the ratio that is to be reached, if any."""

    name: str
    target: float | None
    bare: Callable[[], object]
    coded: Callable[[], object]


def fitted(
    model: nn.Module, layers: object, shape: tuple[int, ...], **options: object
) -> WrappedModel:
    """A wrapped model with the default recipe, fitted on random data in ten classes."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(FIT_BATCHES):
        y = torch.randint(CLASSES, (256,), generator=generator)
        x = torch.randn(256, *shape, generator=generator) + y.view(-1, *[1] * len(shape)) / 5
        batches.append((x.to(device), y.to(device)))
    return nervecode.wrap(model, layers).fit(batches, **options)


def inference(model: nn.Module, x: Tensor) -> Callable[[], object]:
    """One forward pass without gradients."""

    def run() -> object:
        with torch.no_grad():
            return model(x)

    return run


def training_step(model: nn.Module, x: Tensor, y: Tensor, *, coding: bool) -> Callable[[], object]:
    """Forward, backward and SGD; with the coding loss of learned codebooks where asked for."""
    model(x[:2])
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)

    def run() -> None:
        loss = F.cross_entropy(model(x), y)
        if coding:
            loss = loss + 0.1 * model.coding_loss()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def resnet(width: int, device: str) -> nn.Module:
    """ResNet-18 for 32x32 inputs, in evaluation mode."""
    torch.manual_seed(0)
    return ResNet(BasicBlock, (2, 2, 2, 2), 3, width, CLASSES).to(device).eval()


PLACES = ["stem", *[f"blocks.{i}" for i in range(8)]]


def rows(device: str) -> list[Row]:
    """The table of docs/overhead.md, in order."""
    table = []
    for width, batch, target in ((64, 64, 1.04), (16, 128, 1.08)):
        model = resnet(width, device)
        x = torch.randn(batch, 3, 32, 32, device=device)
        wrapped = fitted(model, PLACES, (3, 32, 32))
        name = f"ResNet-18 width {width}, batch {batch}, inference, 9 places"
        table.append(Row(name, target, inference(model, x), inference(wrapped, x)))
    model = resnet(64, device)
    x, y = torch.randn(64, 3, 32, 32, device=device), torch.randint(10, (64,), device=device)
    learned = nervecode.wrap(resnet(64, device), PLACES)
    bare = training_step(model.train(), x, y, coding=False)
    coded = training_step(learned.train(), x, y, coding=True)
    table.append(Row("ResNet-18 width 64, batch 64, training step, coding loss", 1.06, bare, coded))
    model = resnet(64, device)
    last = fitted(model, "last_block", (3, 32, 32))
    name = "ResNet-18 width 64, batch 64, inference, last_block"
    table.append(Row(name, 1.02, inference(model, x), inference(last, x)))
    mlp = nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)
    ).to(device)
    flat = torch.randn(256, 784, device=device)
    coded_mlp = fitted(mlp, "all_linear", (784,))
    name = "MLP 784-512-512-10, batch 256, inference, all_linear"
    table.append(Row(name, 1.30, inference(mlp, flat), inference(coded_mlp, flat)))
    lean = fitted(copy.deepcopy(mlp), "all_linear", (784,), rank=32, label_code=False)
    name = "the same with rank=32, label_code=False"
    table.append(Row(name, None, inference(mlp, flat), inference(lean, flat)))
    model = resnet(64, device)
    off = fitted(model, PLACES, (3, 32, 32))
    off.disable_coding()
    name = "ResNet-18 width 64, batch 64, coding disabled"
    table.append(Row(name, 1.00, inference(model, x), inference(off, x)))
    return table


def measure(row: Row, rounds: int, synchronise: Callable[[], object]) -> tuple[float, float, float]:
    """(median of bare, median of coded, ratio), seconds; the two take turns."""
    times: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + 2):
        for kept, work in zip(times, (row.bare, row.coded), strict=True):
            synchronise()
            began = time.perf_counter()
            work()
            synchronise()
            if index >= 2:  # two rounds to warm up
                kept.append(time.perf_counter() - began)
    bare, coded = statistics.median(times[0]), statistics.median(times[1])
    return bare, coded, coded / bare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    synchronise = torch.cuda.synchronize if given.device == "cuda" else nullcontext
    print(f"torch {torch.__version__}, {given.device}, {given.threads} threads")
    print("| work | bare ms | coded ms | ratio | target |\n| --- | ---: | ---: | ---: | ---: |")
    for row in rows(given.device):
        bare, coded, ratio = measure(row, given.rounds, synchronise)
        target = "" if row.target is None else f"{row.target:.2f}"
        shown = f"{1e3 * bare:.1f} | {1e3 * coded:.1f} | {ratio:.3f} | {target}"
        print(f"| {row.name} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
