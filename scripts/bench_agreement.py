#!/usr/bin/env python
"""How closely exported graphs agree with the wrapped model, on thirteen kinds of network.

    python scripts/bench_agreement.py [--only mlp,vit] [--formats pt2,onnx]

Each network has random weights, batch statistics of its inputs and a head that is a ridge
regression, but for one perceptron that is trained; it is wrapped, fitted and calibrated, and
scores 64 inputs as batches of 1, 7 and 64: by `wrapped.score`, by the graph that torch.export
traced, and by ONNX Runtime. The table shows the largest differences from eager PyTorch at the same
batch size, and what eager PyTorch itself differs by between batch sizes.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torchvision
from torch import Tensor, nn

import nervecode
from nervecode.layers import WrappedModel

CLASSES = 4
FITTED, CALIBRATED, SCORED = 256, 199, 64
BATCHES = (1, 7, 64)
FORMATS = ("pt2", "onnx")
ALPHA = torch.tensor(0.05, dtype=torch.float64)
SEPARATION = 0.5  # of the classes' means, over the deviation of the noise
RIDGE = 1e-2

Inputs = dict[str, Tensor]


def pictures(number: int, labels: Tensor, generator: torch.Generator) -> Inputs:
    """(N, 3, 64, 64) noise, brighter in another quarter for each class."""
    x = torch.randn(number, 3, 64, 64, generator=generator)
    for quarter in range(CLASSES):
        rows, columns = 32 * (quarter // 2), 32 * (quarter % 2)
        x[labels == quarter, :, rows : rows + 32, columns : columns + 32] += SEPARATION
    return {"input": x}


def vectors(number: int, labels: Tensor, generator: torch.Generator) -> Inputs:
    """(N, 32) noise around a mean for each class."""
    x = torch.randn(number, 32, generator=generator)
    return {"input": x + 2 * SEPARATION * torch.eye(CLASSES, 32)[labels]}


def series(number: int, labels: Tensor, generator: torch.Generator) -> Inputs:
    """(N, 12, 6) noise with a drift for each class."""
    x = torch.randn(number, 12, 6, generator=generator)
    return {"input": x + SEPARATION * torch.eye(CLASSES, 6)[labels].unsqueeze(1)}


def texts(number: int, labels: Tensor, generator: torch.Generator) -> Inputs:
    """(N, 12) tokens from a range for each class, padded at the end."""
    tokens = torch.randint(1, 60, (number, 12), generator=generator) + 40 * labels.unsqueeze(1)
    lengths = torch.randint(4, 13, (number, 1), generator=generator)
    mask = (torch.arange(12) < lengths).long()
    return {"input_ids": tokens * mask, "attention_mask": mask}


class Recurrent(nn.Module):
    """An LSTM whose last step is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 24, batch_first=True)
        self.head = nn.Linear(24, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])  # type: ignore[no-any-return]


class Attentive(nn.Module):
    """A Transformer encoder whose mean over steps is classified."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(6, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(32, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.stem(x)).mean(1))  # type: ignore[no-any-return]


def digits(number: int, labels: Tensor, generator: torch.Generator) -> Inputs:
    """(N, 64) standardised pixels of scikit-learn's digits 0 to 3; some are nearly always 0."""
    from sklearn.datasets import load_digits

    pixels, digit = load_digits(return_X_y=True)
    x = torch.empty(number, 64)
    for k in range(CLASSES):
        of_class = torch.from_numpy(pixels[digit == k] / 16).float()
        wanted = labels == k
        x[wanted] = of_class[torch.randperm(len(of_class), generator=generator)[: wanted.sum()]]
    return {"input": (x - x.mean(0)) / x.std(0).clamp_min(1e-6)}


def perceptron(width: int = 32) -> Callable[[], nn.Module]:
    """WIDTH-64-64-4."""
    return lambda: nn.Sequential(
        nn.Linear(width, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, CLASSES)
    )


def bert() -> nn.Module:
    """Two small layers of BERT, with a classifier."""
    from transformers import BertConfig, BertForSequenceClassification

    config = BertConfig(
        vocab_size=256, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, max_position_embeddings=16, num_labels=CLASSES,
    )  # fmt: skip
    return BertForSequenceClassification(config)  # type: ignore[no-any-return]


def from_torchvision(name: str, **options: object) -> Callable[[], nn.Module]:
    """A network of torchvision with random weights."""
    return lambda: torchvision.models.get_model(name, weights=None, num_classes=CLASSES, **options)


def vit() -> nn.Module:
    """A small Vision Transformer."""
    return torchvision.models.VisionTransformer(  # type: ignore[no-any-return]
        image_size=64, patch_size=16, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=CLASSES,
    )  # fmt: skip


def swin() -> nn.Module:
    """A small Swin Transformer."""
    return torchvision.models.SwinTransformer(  # type: ignore[no-any-return]
        patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4],
        num_classes=CLASSES,
    )  # fmt: skip


class Case(NamedTuple):
    """A kind of network, what it is given, what of it is watched, and how long it is trained."""

    build: Callable[[], nn.Module]
    inputs: Callable[[int, Tensor, torch.Generator], Inputs] = pictures
    layers: object = "all_blocks"
    steps: int = 0


CASES: dict[str, Case] = {
    "mlp": Case(perceptron(), vectors, "all_linear"),
    "trained mlp": Case(perceptron(64), digits, "all_linear", steps=300),
    "lstm": Case(Recurrent, series, ["lstm", "head"]),
    "transformer": Case(Attentive, series, "all_blocks"),
    "bert": Case(bert, texts),
    "vit": Case(vit),
    "swin": Case(swin),
    "resnet18": Case(from_torchvision("resnet18")),
    "mobilenet_v2": Case(from_torchvision("mobilenet_v2", width_mult=0.35)),
    "mobilenet_v3_small": Case(from_torchvision("mobilenet_v3_small")),
    "efficientnet_b0": Case(from_torchvision("efficientnet_b0")),
    "shufflenet_v2": Case(from_torchvision("shufflenet_v2_x0_5")),
    "regnet_y_400mf": Case(from_torchvision("regnet_y_400mf")),
}


@dataclass(frozen=True)
class Answer:
    """What a path says of the scored inputs: (N, L), (N,) and (N,)."""

    by_layer: np.ndarray
    surprise: np.ndarray
    p_value: np.ndarray

    @classmethod
    def joined(cls, parts: list[tuple[object, object, object]]) -> Answer:
        """That of some batches, in order."""
        columns = zip(*parts, strict=True)
        return cls(*[np.concatenate([np.asarray(p) for p in column]) for column in columns])


class Difference(NamedTuple):
    """How far an answer is from another.

    Attributes:
        bits: the largest difference of a layer's surprise, over 1 bit plus its size.
        p_values: the share of p-values that differ.
        ranks: the largest difference of a p-value, in calibration inputs.
    """

    bits: float
    p_values: float
    ranks: int

    @classmethod
    def of(cls, answer: Answer, expected: Answer) -> Difference:
        bits = np.abs(answer.by_layer - expected.by_layer) / (1 + np.abs(expected.by_layer))
        ranks = np.abs(answer.p_value - expected.p_value) * (CALIBRATED + 1)
        return cls(float(bits.max()), float((ranks > 0.5).mean()), round(float(ranks.max())))


def calibrated(case: Case) -> tuple[WrappedModel, Inputs]:
    """A wrapped model of a kind, fitted and calibrated, and inputs to score."""
    torch.manual_seed(0)
    model = case.build().eval()
    generator = torch.Generator().manual_seed(1)
    total = FITTED + CALIBRATED + SCORED
    labels = torch.randint(CLASSES, (total,), generator=generator)
    inputs = case.inputs(total, labels, generator)
    parts = [part(inputs, slice(0, FITTED)), part(inputs, slice(FITTED, FITTED + CALIBRATED))]
    settle(model, parts[0])
    if case.steps:
        train(model, parts[0], labels[:FITTED], case.steps)
    else:
        fit_head(model, parts[0], labels[:FITTED])
    wrapped = nervecode.wrap(model, case.layers)  # type: ignore[arg-type]
    wrapped.fit([(given(parts[0]), labels[:FITTED])]).calibrate([given(parts[1])])
    return wrapped, part(inputs, slice(total - SCORED, total))


def given(inputs: Inputs) -> Tensor | Inputs:
    """The inputs as a loader gives them: one by itself, several by name."""
    return inputs["input"] if list(inputs) == ["input"] else inputs


def part(inputs: Inputs, rows: slice) -> Inputs:
    """Some rows of all inputs."""
    return {name: values[rows] for name, values in inputs.items()}


def call(model: nn.Module, inputs: Inputs) -> object:
    """What a model returns."""
    return model(inputs["input"]) if list(inputs) == ["input"] else model(**inputs)


@torch.no_grad()
def settle(model: nn.Module, inputs: Inputs) -> None:
    """Give batch normalisation the statistics of some inputs.

    Without, activations of random weights vanish with depth, and what is left is rounding.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # all inputs weigh the same
            module.train()
    call(model, inputs)
    model.eval()


def train(model: nn.Module, inputs: Inputs, labels: Tensor, steps: int) -> None:
    """Train a model on some inputs until it is sure of them."""
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(call(model, inputs), labels).backward()  # type: ignore[arg-type]
        optimizer.step()


@torch.no_grad()
def fit_head(model: nn.Module, inputs: Inputs, labels: Tensor) -> None:
    """Make the last linear layer a ridge regression, with outputs as large as after training."""
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    seen: list[Tensor] = []
    hook = head.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    call(model, inputs)
    hook.remove()
    features = seen[0].double()
    mean, scale = features.mean(0), features.std().clamp_min(1e-12)
    z = (features - mean) / scale
    targets = 8 * torch.eye(CLASSES, dtype=torch.float64)[labels] - 8 / CLASSES
    gram = z.T @ z + RIDGE * len(z) * torch.eye(z.shape[1], dtype=torch.float64)
    weight = torch.linalg.solve(gram, z.T @ targets).T / scale
    head.weight.copy_(weight)
    head.bias.copy_(-weight @ mean)


def batches(inputs: Inputs, size: int) -> Iterator[Inputs]:
    """The inputs, so many at a time."""
    for start in range(0, SCORED, size):
        yield part(inputs, slice(start, start + size))


@torch.no_grad()
def eager(wrapped: WrappedModel, inputs: Inputs, size: int) -> Answer:
    """What `wrapped.score` says."""
    parts = []
    for batch in batches(inputs, size):
        only = given(batch)
        surprise = (wrapped.score(only) if isinstance(only, Tensor) else wrapped.score(**only))[1]
        parts.append((surprise.by_layer, surprise.surprise, surprise.p_value))
    return Answer.joined(parts)


@torch.no_grad()
def traced(path: Path, inputs: Inputs, size: int) -> Answer:
    """What the graph in a `.pt2` file says."""
    graph = torch.export.load(path).module()
    answers = [graph(**batch, alpha=ALPHA) for batch in batches(inputs, size)]
    return Answer.joined([(a["by_layer"], a["surprise"], a["p_value"]) for a in answers])


def onnx(path: Path, inputs: Inputs, size: int) -> Answer:
    """What ONNX Runtime says."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path))
    names = ["by_layer", "surprise", "p_value"]
    alpha = ALPHA.numpy()
    return Answer.joined(
        [
            session.run(names, {**{k: v.numpy() for k, v in batch.items()}, "alpha": alpha})
            for batch in batches(inputs, size)
        ]
    )


def differences(name: str, formats: tuple[str, ...] = FORMATS) -> dict[str, Difference]:
    """Path -> its largest differences at any batch size; `eager` between batch sizes."""
    wrapped, inputs = calibrated(CASES[name])
    expected = {size: eager(wrapped, inputs, size) for size in BATCHES}
    worst = {"eager": [Difference.of(expected[size], expected[SCORED]) for size in BATCHES]}
    with tempfile.TemporaryDirectory() as folder:
        for format in formats:
            path = Path(folder) / f"model.{format}"
            wrapped.export(path, given(part(inputs, slice(0, 2))))
            run = traced if format == "pt2" else onnx
            worst[format] = [
                Difference.of(run(path, inputs, size), expected[size]) for size in BATCHES
            ]
    return {
        path: Difference(*[max(values) for values in zip(*each, strict=True)])
        for path, each in worst.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default=",".join(CASES), help="networks")
    parser.add_argument("--formats", default=",".join(FORMATS))
    options = parser.parse_args()
    formats = tuple(options.formats.split(","))
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    paths = ("eager", *formats)
    print(f"torch {torch.__version__}; {CALIBRATED} calibration inputs\n")
    titles = [f"{path}: bits | p-values that differ | ranks" for path in paths]
    print(f"| network | {' | '.join(titles)} |")
    print("| --- |" + " ---: |" * 3 * len(paths))
    for name in options.only.split(","):
        found = differences(name, formats)
        cells = [f"{d.bits:.0e} | {100 * d.p_values:.1f} % | {d.ranks}" for d in found.values()]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
