#!/usr/bin/env python
"""What a scored call costs over a bare one: eager, compiled and exported, at batch 1 and 64.

    python scripts/bench_latency.py [--threads 2] [--rounds 15] [--only mlp] [--device cuda]

Every way takes its turn, A B C A B C …; the table prints medians over the bare model's. Compiled
is over the compiled bare model, ONNX Runtime over the exported bare model in ONNX Runtime.
"""

from __future__ import annotations

import argparse
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torchvision
from torch import Tensor, nn

import nervecode
from nervecode.lab.models.resnet import ResNet18
from nervecode.layers import WrappedModel

CLASSES = 10
INPUTS = 256  # to fit, and as many to calibrate
ALPHA = torch.tensor(0.05, dtype=torch.float64)
BATCHES = (1, 64)
PLACES = ["stem", *[f"blocks.{index}" for index in range(8)]]

Work = Callable[[], object]


def perceptron() -> nn.Module:
    """784-512-512-10."""
    return nn.Sequential(
        nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, CLASSES)
    )


def from_torchvision(name: str) -> Callable[[], nn.Module]:
    """A network of torchvision with random weights."""
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=CLASSES)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], object]] = {
    "mlp": (perceptron, (784,), "all_linear"),
    "resnet18_32": (lambda: ResNet18(3, 64, CLASSES), (3, 32, 32), PLACES),
    "resnet18_224": (from_torchvision("resnet18"), (3, 224, 224), "all_blocks"),
    "mobilenet_v3_small": (from_torchvision("mobilenet_v3_small"), (3, 224, 224), "all_blocks"),
    "vit_b_16": (from_torchvision("vit_b_16"), (3, 224, 224), "all_blocks"),
}


def calibrated(model: nn.Module, shape: tuple[int, ...], layers: object) -> WrappedModel:
    """A wrapped model with the default recipe, on noise in ten classes."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    batches = []
    for _ in range(2 * INPUTS // 64):
        y = torch.randint(CLASSES, (64,), generator=generator)
        x = torch.randn(64, *shape, generator=generator) + y.view(-1, *[1] * len(shape)) / 5
        batches.append((x.to(device), y.to(device)))
    half = len(batches) // 2
    return nervecode.wrap(model, layers).fit(batches[:half]).calibrate(batches[half:])


def ways(wrapped: WrappedModel, bare: nn.Module, x: Tensor, exported: bool) -> dict[str, Work]:
    """Name -> one call; after a name in brackets, what it is compared with."""
    compiled, compiled_bare = torch.compile(wrapped.score), torch.compile(bare)

    def scored() -> object:
        output, surprise = wrapped.score(x)
        return output, surprise.p_value

    works: dict[str, Work] = {
        "bare": lambda: bare(x),
        "wrapped": scored,
        "compiled bare": lambda: compiled_bare(x),
        "compiled": lambda: compiled(x)[1].p_value,
    }
    if exported:
        given = {"input": x.numpy()}
        session, plain = sessions(wrapped, bare, x)
        works["onnx bare"] = lambda: plain.run(None, given)
        works["onnx"] = lambda: session.run(None, {**given, "alpha": np.array(0.05)})
    return works


def sessions(
    wrapped: WrappedModel, bare: nn.Module, x: Tensor
) -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
    """The exported wrapped model, and the exported bare one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        wrapped.export(path, x)
        graph = path.read_bytes()
    batch = {0: torch.export.Dim("batch")}
    example = torch.cat([x, x])
    program = torch.onnx.export(
        bare, (example,), input_names=["input"], dynamo=True, dynamic_shapes=(batch,), verbose=False
    )
    plain = io.BytesIO(program.model_proto.SerializeToString()).getvalue()
    made = [onnxruntime.InferenceSession(g, options) for g in (graph, plain)]
    return made[0], made[1]


def medians(works: dict[str, Work], rounds: int, synchronise: Work) -> dict[str, float]:
    """Median seconds of each; they take turns, after three rounds to warm up."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for index in range(rounds + 3):
        for name, work in works.items():
            synchronise()
            began = time.perf_counter()
            work()
            synchronise()
            if index >= 3:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(column) for name, column in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default=",".join(CASES), help="networks")
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.set_grad_enabled(False)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    synchronise: Work = torch.cuda.synchronize if given.device == "cuda" else lambda: None
    print(f"torch {torch.__version__}, {given.device}, {given.threads} threads\n")
    print("| network | batch | bare ms | wrapped / bare | compiled / compiled | ONNX / ONNX |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name in given.only.split(","):
        make, shape, layers = CASES[name]
        torch.manual_seed(0)
        bare = make().to(given.device).eval()
        torch.manual_seed(0)
        wrapped = calibrated(make().to(given.device).eval(), shape, layers)
        for batch in BATCHES:
            x = torch.randn(batch, *shape, device=given.device)
            works = ways(wrapped, bare, x, given.device == "cpu")
            seconds = medians(works, given.rounds, synchronise)
            eager = seconds["wrapped"] / seconds["bare"]
            fused = seconds["compiled"] / seconds["compiled bare"]
            onnx = f"{seconds['onnx'] / seconds['onnx bare']:.2f}" if "onnx" in seconds else ""
            figures = f"{1e3 * seconds['bare']:.2f} | {eager:.2f} | {fused:.2f} | {onnx}"
            print(f"| {name} | {batch} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
