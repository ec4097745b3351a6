#!/usr/bin/env python
"""What fitting costs: over bare forwards of networks, against pytorch-ood, and in memory.

    python scripts/bench_fit.py [--threads 2] [--rounds 5] [--only networks,memory,rivals,growth]

Times are taken in turn, A B A B …, and the tables print ratios of their medians; below 1 is faster.
Memory is the peak of fresh processes.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn

import nervecode
from nervecode.core import GaussianCode
from nervecode.core.precision import RANK
from nervecode.layers.fit.layer_fit import LayerFit  # what CodeFitter does for each layer
from nervecode.layers.fitter import CodeFitter

CLASSES = 10
BATCH = 256
PICTURES = 64  # to a batch
RIVALS = (64, 512, 4096)
GROWTH = (64, 512, 4096)
NETWORKS = (("resnet50", 64, 512), ("vit_b_16", 224, 64), ("mobilenet_v3_large", 224, 256))

Batch = tuple[Tensor, Tensor]


# Vectors


def batches(inputs: int, dim: int, *, seed: int = 0) -> Iterator[Batch]:
    """Features (B, D) around one centre per class, and their labels (B,), made on the fly."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(CLASSES, dim, generator=generator)
    for start in range(0, inputs, BATCH):
        y = torch.randint(CLASSES, (min(BATCH, inputs - start),), generator=generator)
        yield torch.randn(len(y), dim, generator=generator) + centres[y], y


def fit(data: Iterable[Batch]) -> GaussianCode:
    """One streaming pass and the codes made from it."""
    layer: LayerFit | None = None
    for z, y in data:
        layer = layer or LayerFit(CLASSES, z, codes_per_class=8, rank=RANK)
        layer.update(z, y)
    assert layer is not None
    return layer.codes()


def table_of_rivals(inputs: int, rounds: int) -> None:
    """The streaming fit beside Mahalanobis, from the same batches and from one tensor."""
    from pytorch_ood.detector import Mahalanobis

    print("| D | ours ms | `fit` ms | `fit_features` ms | ours / `fit` | ours / `fit_features` |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for dim in RIVALS:
        data = list(batches(inputs, dim))
        z, y = (torch.cat(parts) for parts in zip(*data, strict=True))
        ours, loader, features = medians(
            [
                lambda data=data: fit(data),
                lambda data=data: Mahalanobis(nn.Identity()).to("cpu").fit(data),
                lambda z=z, y=y: Mahalanobis(None).fit_features(z, y),
            ],
            rounds if dim < 4096 else 1,
        )
        times = " | ".join(f"{1e3 * seconds:.0f}" for seconds in (ours, loader, features))
        print(f"| {dim} | {times} | {ours / loader:.2f} | {ours / features:.2f} |", flush=True)


def table_of_growth(inputs: int, threads: int) -> None:
    """N against 4 N: time should grow fourfold, memory not at all."""
    print("| D | N | seconds | peak MiB | time ratio | memory ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for dim in GROWTH:
        first = elsewhere(f"vectors:{dim}:{inputs}", threads)
        second = elsewhere(f"vectors:{dim}:{4 * inputs}", threads)
        ratios = f"{second[0] / first[0]:.2f} | {second[1] / first[1]:.3f}"
        for count, (seconds, mib), shown in (
            (inputs, first, "| "),
            (4 * inputs, second, ratios),
        ):
            print(f"| {dim} | {count} | {seconds:.2f} | {mib:.0f} | {shown} |", flush=True)


# Networks


def network(name: str) -> nn.Module:
    """A network of torchvision with random weights."""
    torch.manual_seed(0)
    return torchvision.models.get_model(name, weights=None).eval()


def pictures(count: int, pixels: int) -> list[Batch]:
    """Noise, in batches, with labels below 1,000."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 3, pixels, pixels, generator=generator)
    y = torch.randint(1000, (count,), generator=generator)
    return list(zip(x.split(PICTURES), y.split(PICTURES), strict=True))


def forwards(model: nn.Module, data: list[Batch]) -> None:
    """The bare model on every batch."""
    with torch.no_grad():
        for x, _ in data:
            model(x)


def table_of_networks(rounds: int) -> None:
    """`fit` of all blocks over a bare pass of the same pictures."""
    print("| network | pictures | layers | widest D | bare s | fit s | ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, pixels, count in NETWORKS:
        model, data = network(name), pictures(count, pixels)
        wrapped = nervecode.wrap(network(name))
        bare, fitted = medians(
            [
                lambda model=model, data=data: forwards(model, data),
                lambda wrapped=wrapped, data=data: wrapped.fit(data),
            ],
            rounds,
        )
        codes = [coder.codes for coder in wrapped.coders.values()]
        widest = max(len(code.mean) for code in codes if isinstance(code, GaussianCode))
        sizes = f"{count} of {pixels} px | {len(codes)} | {widest}"
        print(f"| {name} | {sizes} | {bare:.2f} | {fitted:.2f} | {fitted / bare:.2f} |", flush=True)


def table_of_memory(threads: int) -> None:
    """What fit and score add to the peak of a process, beside what a bare pass adds."""
    print("| network | bare MiB | kept MiB | fit / (bare + kept) | score / (bare + codes) |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, pixels, count in NETWORKS:
        sizes = f"{name}:{pixels}:{min(count, 2 * PICTURES)}"
        with tempfile.TemporaryDirectory() as folder:
            bare, _ = elsewhere(f"bare:{sizes}:{folder}", threads)
            fitted, kept = elsewhere(f"fit:{sizes}:{folder}", threads)
            scored, codes = elsewhere(f"score:{sizes}:{folder}", threads)
        ratios = f"{fitted / (bare + kept):.2f} | {scored / (bare + codes):.2f}"
        print(f"| {name} | {bare:.0f} | {kept:.0f} | {ratios} |", flush=True)


def fit_and_save(model: nn.Module, data: list[Batch], path: Path) -> float:
    """`fit` and `save`; gives the MiB of codes, moments and samples."""
    wrapped = nervecode.wrap(model)
    fitter = CodeFitter(wrapped)
    for x, y in data:
        with torch.no_grad(), fitter.watching():
            model(x)
        fitter.update(y, 1000)
    kept = 0
    for layer in fitter._layers.values():
        kept += mib(vars(layer.stream._sum).values()) + mib(layer.reservoir._rows)
    fitter.finish()
    wrapped.save(path)
    return kept + mib(wrapped.coders.state_dict().values())


def load_and_score(model: nn.Module, data: list[Batch], path: Path) -> float:
    """`load` and a pass; gives the MiB of the codes."""
    wrapped = nervecode.load(path, model)
    forwards(wrapped, data)
    return mib(wrapped.coders.state_dict().values())


# Fresh processes


def elsewhere(case: str, threads: int) -> tuple[float, float]:
    """`measured` in a fresh process, whose memory nothing else has touched."""
    command = [sys.executable, __file__, "--threads", str(threads), "--case", case]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    first, second = json.loads(done.stdout)
    return first, second


def measured(case: str) -> tuple[float, float]:
    """What a case is measured by.

    `vectors:D:N`: seconds of the fit without the making of the data, and the peak in MiB.
    `bare`, `fit` or `score`, then `:NETWORK:PIXELS:COUNT:FOLDER`: MiB that the work adds to the
    peak, and those of what it keeps.
    """
    kind, *sizes = case.split(":")
    if kind == "vectors":
        dim, inputs = map(int, sizes)
        fit(batches(8 * BATCH, dim))  # the first products start threads and libraries
        making = timed(lambda: only_read(batches(inputs, dim)))
        return timed(lambda: fit(batches(inputs, dim))) - making, peak()
    model, data = network(sizes[0]), pictures(int(sizes[2]), int(sizes[1]))
    path, before, kept = Path(sizes[3]) / "codes.safetensors", peak(), 0.0
    if kind == "fit":
        kept = fit_and_save(model, data, path)
    elif kind == "score":
        kept = load_and_score(model, data, path)
    else:
        forwards(model, data)
    return peak() - before, kept


def only_read(data: Iterable[Batch]) -> None:
    """Make the data and drop them: what is taken off the time of a fit."""
    for _ in data:
        pass


def peak() -> float:
    """The peak resident MiB of this process so far."""
    status = Path("/proc/self/status")
    if status.exists():  # Linux counts the peak of the process that started this one as its own
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) / 2**10
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes / (2**20 if sys.platform == "darwin" else 2**10)  # macOS counts bytes


def mib(tensors: Iterable[Tensor]) -> float:
    """The MiB of tensors."""
    return sum(tensor.nbytes for tensor in tensors) / 2**20


def timed(work: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def medians(works: list[Callable[[], object]], rounds: int) -> list[float]:
    """The median time of each, in seconds; they take turns, after one round to warm up."""
    times = [[timed(work) for work in works] for _ in range(rounds + 1)][1:]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--inputs", type=int, default=50_000, help="N")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="networks,memory,rivals,growth", help="tables")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    warnings.simplefilter("ignore")
    if given.case:
        print(json.dumps(measured(given.case)))
        return
    print(f"torch {torch.__version__}, cpu, {given.threads} threads")
    tables = {
        "networks": ("`fit` over bare forwards", lambda: table_of_networks(given.rounds)),
        "memory": ("Memory added to the peak", lambda: table_of_memory(given.threads)),
        "rivals": (
            f"pytorch-ood's Mahalanobis, N = {given.inputs}, {CLASSES} classes",
            lambda: table_of_rivals(given.inputs, given.rounds),
        ),
        "growth": ("N against 4 N", lambda: table_of_growth(given.inputs, given.threads)),
    }
    for name in given.only.split(","):
        title, table = tables[name]
        print(f"\n{title}:\n")
        table()


if __name__ == "__main__":
    main()
