#!/usr/bin/env python
"""What rank and number of codes are worth at several widths of the layers: detection, and time.

    python scripts/ablate_rank.py [--seeds 3] [--widths 64,128,256,512]

Perceptrons of three hidden layers learn the digits 0 to 7, and wine's classes 1 and 2; 8 and 9, and
class 0, are held out. Every row is another fit to the same networks: AUROC x100 of the held-out
classes against ID test, less that of the default, at each width; and how many columns a layer
multiplies by, which is what it costs.
"""

from __future__ import annotations

import argparse
import logging
import warnings
from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn import functional as F

import nervecode

RANK, CODES = 128, 8  # the default
EPOCHS, BATCH = 40, 64
# What a row does: width -> (rank, codes per class).
RULES: dict[str, Callable[[int], tuple[int, int]]] = {
    "default: rank 128, 8 codes": lambda width: (RANK, CODES),
    "rank width / 2, at most 128": lambda width: (min(RANK, width // 2), CODES),
    "rank width / 4, at most 128": lambda width: (min(RANK, width // 4), CODES),
    "rank width / 8, at most 128": lambda width: (min(RANK, width // 8), CODES),
    "rank 64": lambda width: (64, CODES),
    "rank 32": lambda width: (32, CODES),
    "4 codes": lambda width: (RANK, 4),
    "2 codes": lambda width: (RANK, 2),
    "1 code": lambda width: (RANK, 1),
    "codes width / 32": lambda width: (RANK, max(1, width // 32)),
}


class Data(NamedTuple):
    """Features and labels of a task, and features of held-out classes."""

    x: Tensor
    y: Tensor
    outside: Tensor
    classes: int


def digits() -> Data:
    """The digits 0 to 7; 8 and 9 are outside."""
    bunch = load_digits()
    return _without(torch.tensor(bunch.data).float() / 16, torch.tensor(bunch.target), (8, 9))


def wine() -> Data:
    """Classes 1 and 2 of wine, standardised; 0 is outside."""
    bunch = load_wine()
    x, y = torch.tensor(bunch.data), torch.tensor(bunch.target)
    x = (x - x[y > 0].mean(0)) / x[y > 0].std(0)
    return _without(x.float(), y, (0,))


def _without(x: Tensor, y: Tensor, outside: tuple[int, ...]) -> Data:
    known = ~torch.isin(y, torch.tensor(outside))
    classes, labels = y[known].unique(return_inverse=True)
    return Data(x[known], labels, x[~known], len(classes))


def trained(data: Data, width: int, seed: int) -> tuple[nn.Module, list[Data]]:
    """A perceptron, and the train, calibration and test parts of its data."""
    torch.manual_seed(seed)
    order = torch.randperm(len(data.x))
    cuts = (0, len(order) // 2, 3 * len(order) // 4, len(order))
    parts = [data._replace(x=data.x[order[a:b]], y=data.y[order[a:b]]) for a, b in pairwise(cuts)]
    sizes = [data.x.shape[1], width, width, width]
    layers = [(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(sizes)]
    blocks = nn.Sequential(*[nn.Sequential(*pair) for pair in layers])
    model = nn.Sequential(blocks, nn.Linear(width, data.classes))
    optimiser = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(parts[0].x)).split(BATCH):
            optimiser.zero_grad()
            F.cross_entropy(model(parts[0].x[rows]), parts[0].y[rows]).backward()
            optimiser.step()
    return model.eval(), parts


@torch.no_grad()
def auroc(model: nn.Module, parts: list[Data], rank: int, codes: int) -> float:
    """AUROC x100 of the held-out classes against ID test."""
    train, calibration, test = parts
    wrapped = nervecode.wrap(model, ["0.0", "0.1", "0.2", "1"])
    wrapped.fit([(train.x, train.y)], rank=rank, codes_per_class=codes)
    wrapped.calibrate([calibration.x])
    scores = [wrapped.score(x)[1].score for x in (test.x, test.outside)]
    wrapped.unwrap()
    labels = torch.cat([torch.full((len(s),), float(i)) for i, s in enumerate(scores)])
    return 100 * float(roc_auc_score(labels, torch.cat(scores)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", default="64,128,256,512")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    widths = [int(width) for width in given.widths.split(",")]
    for name, data in (("digits", digits()), ("wine", wine())):
        networks = {
            width: [trained(data, width, seed) for seed in range(given.seeds)] for width in widths
        }
        print(f"\n| {name} | {' | '.join(f'width {width} | columns' for width in widths)} |")
        print("| --- |" + " ---: | ---: |" * len(widths))
        first: dict[int, float] = {}
        for rule, choose in RULES.items():
            cells = []
            for width in widths:
                rank, codes = choose(width)
                mean = sum(auroc(*one, rank, codes) for one in networks[width]) / given.seeds
                change = f"{mean:.2f}" if width not in first else f"{mean - first[width]:+.2f}"
                first.setdefault(width, mean)
                columns = min(rank, width) + data.classes * (1 + (codes if codes > 1 else 0))
                cells.append(f"{change} | {columns}")
            print(f"| {rule} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
