#!/usr/bin/env python
"""What a scored call costs over a bare one: eager, compiled and exported, at batch 1 and 64.

    python scripts/bench_latency.py [--threads 2] [--rounds 15] [--only mlp] [--batches 1,64]

Eager is over the eager bare model, compiled over the compiled one, ONNX Runtime over the exported
bare model in ONNX Runtime. The two of a pair take turns, A B A B …, and the table prints ratios of
their medians. Pairs come one after another: one runtime's idle threads would take another's cores.
"""

from __future__ import annotations

import argparse
import io
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import torch
import torchvision
from torch import Tensor, nn

import nervecode
from nervecode.lab.models.resnet import BasicBlock, ResNet
from nervecode.layers import WrappedModel

INPUTS = 256  # to fit, and as many to calibrate; with many classes, two of each
ALPHA = torch.tensor(0.05, dtype=torch.float64)
PLACES = ["stem", *[f"blocks.{index}" for index in range(8)]]

Work = Callable[[], object]


def perceptron(classes: int) -> nn.Module:
    """784-512-512-10."""
    hidden = nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU()
    return nn.Sequential(*hidden, nn.Linear(512, classes))


def residual(classes: int) -> nn.Module:
    """ResNet-18 for small images."""
    return ResNet(BasicBlock, (2, 2, 2, 2), 3, 64, classes)


def from_torchvision(name: str) -> Callable[[int], nn.Module]:
    """A network of torchvision with random weights."""
    return lambda classes: torchvision.models.get_model(name, weights=None, num_classes=classes)


CASES: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...], object]] = {
    "mlp": (perceptron, (784,), "all_linear"),
    "resnet18_32": (residual, (3, 32, 32), PLACES),
    "resnet18_224": (from_torchvision("resnet18"), (3, 224, 224), "all_blocks"),
    "mobilenet_v3_small": (from_torchvision("mobilenet_v3_small"), (3, 224, 224), "all_blocks"),
    "vit_b_16": (from_torchvision("vit_b_16"), (3, 224, 224), "all_blocks"),
}


def calibrated(
    model: nn.Module, shape: tuple[int, ...], layers: object, classes: int
) -> WrappedModel:
    """A wrapped model with the default recipe, on noise in so many classes."""
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(0)
    batches = []
    number = max(INPUTS, 2 * classes) // 64
    for batch in range(2 * number):
        y = (torch.arange(64) + 64 * batch) % classes
        x = torch.randn(64, *shape, generator=generator) + y.view(-1, *[1] * len(shape)) / (
            classes / 2
        )
        batches.append((x.to(device), y.to(device)))
    return nervecode.wrap(model, layers).fit(batches[:number]).calibrate(batches[number:])


def pairs(
    wrapped: WrappedModel, bare: nn.Module, x: Tensor, exported: bool
) -> Iterator[tuple[Work, Work]]:
    """One call of the bare model and one of the wrapped, of each way to run them."""

    def scored() -> object:
        output, surprise = wrapped.score(x)
        return output, surprise.p_value

    yield lambda: bare(x), scored
    compiled, compiled_bare = torch.compile(wrapped.score), torch.compile(bare)
    yield lambda: compiled_bare(x), lambda: compiled(x)[1].p_value
    if exported:
        given = {"input": x.numpy()}
        session, plain = sessions(wrapped, bare, x)
        flagged = {**given, "alpha": np.array(0.05)}
        yield lambda: plain.run(None, given), lambda: session.run(None, flagged)


def sessions(
    wrapped: WrappedModel, bare: nn.Module, x: Tensor
) -> tuple[onnxruntime.InferenceSession, onnxruntime.InferenceSession]:
    """The exported wrapped model, and the exported bare one."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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


def medians(pair: tuple[Work, Work], rounds: int, synchronise: Work) -> tuple[float, float]:
    """Median seconds of each; they take turns, for a second at least, after three to warm up."""
    times: list[list[float]] = []
    while len(times) < rounds + 3 or sum(map(sum, times[3:])) < 1:
        times.append([timed(work, synchronise) for work in pair])
    first, second = (statistics.median(column) for column in zip(*times[3:], strict=True))
    return first, second


def timed(work: Work, synchronise: Work) -> float:
    """Seconds of one call."""
    synchronise()
    began = time.perf_counter()
    work()
    synchronise()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--only", default=",".join(CASES), help="networks")
    parser.add_argument("--batches", default="1,64", help="inputs at a time")
    parser.add_argument("--classes", type=int, default=10)
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
        bare = make(given.classes).to(given.device).eval()
        torch.manual_seed(0)
        model = make(given.classes).to(given.device).eval()
        wrapped = calibrated(model, shape, layers, given.classes)
        for batch in map(int, given.batches.split(",")):
            x = torch.randn(batch, *shape, device=given.device)
            exported = given.device == "cpu"
            seconds = [
                medians(pair, given.rounds, synchronise)
                for pair in pairs(wrapped, bare, x, exported)
            ]
            ratios = " | ".join(f"{coded / plain:.2f}" for plain, coded in seconds)
            shown = ratios if exported else f"{ratios} | "
            print(f"| {name} | {batch} | {1e3 * seconds[0][0]:.2f} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
