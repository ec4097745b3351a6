"""The smallest OOD benchmark, as 0.1.1 had it: blobs, a perceptron, learned codes, one threshold.

    python -m benchmarks.ood.simple --epochs 20 --agg max --layers first_linear --quantile 0.90

The flags are those of 0.1.1. `nervecode bench --preset toy` is the same question with seeds,
baselines and a report.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from sklearn.datasets import make_blobs
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

import nervecode
from nervecode.core import SoftAssignment
from nervecode.layers import WrappedModel
from nervecode.scoring import EmpiricalPercentileCalibrator

CENTRES = [(0.0, 0.0), (4.0, 0.0), (2.0, 3.5), (12.0, 12.0)]  # as the preset toy has them
KNOWN = len(CENTRES) - 1  # the last blob is never trained on


def parser() -> argparse.ArgumentParser:
    """The flags of 0.1.1, with its recommended settings."""
    flags = argparse.ArgumentParser(
        prog="python -m benchmarks.ood.simple", description=__doc__.splitlines()[0]
    )
    flags.add_argument("--epochs", type=whole(1), default=20)
    flags.add_argument("--device", type=device, default="cpu")
    flags.add_argument("--agg", choices=("max", "mean", "total"), default="max")
    flags.add_argument("--layers", default="first_linear")
    flags.add_argument("--K", type=whole(1), default=16, help="centres of a codebook")
    flags.add_argument("--coding-dim", type=whole(1), default=8)
    for weight in ("length", "entropy", "distance"):
        flags.add_argument(f"--beta-{weight}", type=float, default=1.0)
    flags.add_argument("--quantile", type=fraction, default=0.90)
    flags.add_argument("--seed", type=whole(0), default=0)
    flags.add_argument("--json", action="store_true", help="one JSON document")
    return flags


def whole(least: int) -> Callable[[str], int]:
    """A whole number from `least` on."""

    def parsed(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"found {text!r}, allowed: whole numbers from {least}")
        return int(text)

    return parsed


def fraction(text: str) -> float:
    """A number between 0 and 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed: above 0, below 1")
    return value


def device(text: str) -> str:
    """A device of PyTorch that is here."""
    try:
        torch.empty(0, device=text)
    except (RuntimeError, AssertionError):
        here = "cpu, cuda" if torch.cuda.is_available() else "cpu"
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed here: {here}") from None
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, calibrate, and print what the surprise tells apart."""
    flags = parser()
    given = flags.parse_args(arguments)
    torch.manual_seed(given.seed)
    train, calibration, test = (blobs(2000, given.seed + part, given.device) for part in range(3))
    strange = blobs(2000, given.seed + 3, given.device, known=False)
    network = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, KNOWN)).to(given.device)
    weights = given.beta_length, given.beta_entropy, given.beta_distance
    try:
        wrapped = nervecode.wrap(
            network,
            given.layers,
            num_codes=given.K,
            coding_dim=given.coding_dim,
            assignment=SoftAssignment(1.0, *weights),
        )
    except nervecode.errors.NervecodeError as error:
        flags.error(str(error))
    learn(wrapped, *train, given.epochs)
    figures = evaluate(wrapped.eval(), calibration, test, strange, given.agg, given.quantile)
    width = max(map(len, figures))
    lines = [f"{name:<{width}}  {value:.4f}" for name, value in figures.items()]
    print(json.dumps(vars(given) | figures) if given.json else "\n".join(lines))


def blobs(n: int, seed: int, device: str, *, known: bool = True) -> tuple[Tensor, Tensor]:
    """(n, 2) points and (n,) classes of the blobs that are trained on, or of the other one."""
    centres = CENTRES[:KNOWN] if known else CENTRES[KNOWN:]
    x, y = make_blobs(n, centers=centres, cluster_std=0.7, random_state=seed)
    return torch.from_numpy(x).float().to(device), torch.from_numpy(y).to(device)


def learn(wrapped: WrappedModel, x: Tensor, y: Tensor, epochs: int) -> None:
    """Task loss plus a tenth of the coding loss."""
    optimiser = torch.optim.Adam(wrapped.parameters(), lr=1e-2)
    for _ in range(epochs):
        for rows in torch.randperm(len(x), device=x.device).split(64):
            loss = nn.functional.cross_entropy(wrapped(x[rows]), y[rows])
            optimiser.zero_grad()
            (loss + 0.1 * wrapped.coding_loss()).backward()
            optimiser.step()


@torch.no_grad()
def evaluate(
    wrapped: WrappedModel,
    calibration: tuple[Tensor, Tensor],
    test: tuple[Tensor, Tensor],
    strange: tuple[Tensor, Tensor],
    agg: str,
    quantile: float,
) -> dict[str, Any]:
    """Accuracy, AUROC, and the share above the threshold in and out of distribution."""

    def surprise(x: Tensor) -> Tensor:
        wrapped(x)
        return wrapped.surprise(agg).surprise

    calibrator = EmpiricalPercentileCalibrator(threshold_quantiles=(quantile,))
    calibrator.fit(surprise(calibration[0]), aggregation=agg)
    known, unknown = surprise(test[0]), surprise(strange[0])
    is_strange = [0] * len(known) + [1] * len(unknown)
    accuracy = (wrapped(test[0]).argmax(1) == test[1]).double().mean()
    return {
        "accuracy": float(accuracy),
        "auroc": float(roc_auc_score(is_strange, torch.cat([known, unknown]).cpu())),
        "threshold": calibrator.threshold_for(),
        "flagged_id": float(calibrator.is_ood(known).double().mean()),
        "flagged_ood": float(calibrator.is_ood(unknown).double().mean()),
    }


if __name__ == "__main__":
    main()
