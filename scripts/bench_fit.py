#!/usr/bin/env python
"""What fitting costs: memory and time against the number of inputs, and against pytorch-ood.

    python scripts/bench_fit.py [--threads 2] [--inputs 50000] [--rounds 7]

The first table fits N and 10 N inputs, each fit in a fresh process that makes its batches as it
goes, so that the peak is the fit's and not the data's. The second times the fit and pytorch-ood's
Mahalanobis on the same features, in turn, and prints ratios of medians; below 1 is faster.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from nervecode.core import GaussianCode
from nervecode.core.precision import RANK
from nervecode.layers.fitter import _LayerFit  # what WrappedModel.fit does for each layer

CLASSES = 10
BATCH = 256
DIMENSIONS = (64, 512)

Batch = tuple[Tensor, Tensor]


def batches(inputs: int, dim: int, *, seed: int = 0) -> Iterator[Batch]:
    """Features (B, D) around one centre per class, and their labels (B,), made on the fly."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, dim, generator=generator)
    for start in range(0, inputs, BATCH):
        y = torch.randint(CLASSES, (min(BATCH, inputs - start),), generator=generator)
        yield torch.randn(len(y), dim, generator=generator) + centres[y], y


def fit(data: Iterable[Batch]) -> GaussianCode:
    """One streaming pass and the codes made from it."""
    layer: _LayerFit | None = None
    for z, y in data:
        layer = layer or _LayerFit(CLASSES, z, codes_per_class=8, rank=RANK)
        layer.update(z, y)
    assert layer is not None
    return layer.codes()


def only_read(data: Iterable[Batch]) -> None:
    """Make the data and drop them: what is taken off the time of a fit."""
    for _ in data:
        pass


def peak(inputs: int, dim: int) -> tuple[float, float]:
    """(seconds of the fit without the making of the data, peak resident MiB of this process)."""
    fit(batches(8 * BATCH, dim))  # the first products start threads and libraries
    making = timed(lambda: only_read(batches(inputs, dim)))
    both = timed(lambda: fit(batches(inputs, dim)))
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    unit = 2**20 if sys.platform == "darwin" else 2**10  # macOS counts bytes, Linux kilobytes
    return both - making, kilobytes / unit


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_elsewhere(inputs: int, dim: int, threads: int) -> tuple[float, float]:
    """`peak` in a fresh process, whose memory nothing else has touched."""
    command = [sys.executable, __file__, "--threads", str(threads), "--inputs", str(inputs)]
    done = subprocess.run(
        [*command, "--peak", str(dim)], capture_output=True, text=True, check=True
    )
    seconds, mib = json.loads(done.stdout)
    return seconds, mib


def table_of_growth(inputs: int, threads: int) -> None:
    """N against 10 N: time should grow tenfold, memory not at all."""
    print("| D | N | seconds | peak MiB | time ratio | memory ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for dim in DIMENSIONS:
        first = peak_elsewhere(inputs, dim, threads)
        second = peak_elsewhere(10 * inputs, dim, threads)
        for count, (seconds, mib), shown in (
            (inputs, first, "| "),
            (10 * inputs, second, f"{second[0] / first[0]:.2f} | {second[1] / first[1]:.3f}"),
        ):
            print(f"| {dim} | {count} | {seconds:.2f} | {mib:.0f} | {shown} |", flush=True)


def table_of_rivals(inputs: int, rounds: int) -> None:
    """The streaming fit beside Mahalanobis, from the same batches and from one tensor."""
    from pytorch_ood.detector import Mahalanobis

    print("| D | ours ms | `fit` ms | `fit_features` ms | ours / `fit` | ours / `fit_features` |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for dim in DIMENSIONS:
        data = list(batches(inputs, dim))
        z, y = (torch.cat(parts) for parts in zip(*data, strict=True))
        ours, loader, features = medians(
            [
                lambda data=data: fit(data),
                lambda data=data: Mahalanobis(nn.Identity()).to("cpu").fit(data),
                lambda z=z, y=y: Mahalanobis(None).fit_features(z, y),
            ],
            rounds,
        )
        times = " | ".join(f"{1e3 * seconds:.0f}" for seconds in (ours, loader, features))
        print(f"| {dim} | {times} | {ours / loader:.2f} | {ours / features:.2f} |", flush=True)


def medians(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each, in seconds; they take turns, after one round to warm up."""
    times = [[timed(work) for work in works] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inputs", type=int, default=50_000, help="N")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--peak", type=int, metavar="D", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    if given.peak:
        print(json.dumps(peak(given.inputs, given.peak)))
        return
    print(f"torch {torch.__version__}, cpu, {given.threads} threads, batches of {BATCH}\n")
    table_of_growth(given.inputs, given.threads)
    print(f"\npytorch-ood's Mahalanobis, N = {given.inputs}, {CLASSES} classes:\n")
    table_of_rivals(given.inputs, given.rounds)


if __name__ == "__main__":
    main()
