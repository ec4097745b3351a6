#!/usr/bin/env python
"""What each signal of the ablations costs, over bare forward passes; writes docs/results/costs.csv.

    python scripts/ablate_costs.py [--rounds 25] [--only ablation_digits]

The networks of `configs/study/ablations.yaml`, untrained, since time does not depend on what was
learned. Each signal is fitted to ID train in batches, and scores ID test; both take turns with bare
forward passes over the same batches, on one thread, and the ratios of the medians of their CPU time
are written, which others on the machine hardly touch. The page of `scripts/study.py` has them
beside what each choice gains.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nervecode.cli.show import say
from nervecode.lab.data.samples import EVAL_BATCH
from nervecode.lab.data.splits import build_splits
from nervecode.lab.models.build import build_model
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.signals import build_signals
from nervecode.lab.schema import Config, SignalConfig
from nervecode.lab.study.costs import Cost, identity, read_costs, write_costs
from nervecode.lab.study.plan import config_of, read_plan
from nervecode.layers import WrappedModel
from nervecode.layers.fitter import FitOptions

ROOT = Path(__file__).resolve().parents[1]
PLAN = ROOT / "configs/study/ablations.yaml"
COSTS = ROOT / "docs/results/costs.csv"
INPUTS = 2048  # of a part, at most

Batches = list[tuple[Tensor, Tensor]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--only", nargs="+", metavar="SETTING")
    parser.add_argument("--costs", type=Path, default=COSTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    plan = read_plan(PLAN)
    ablations = [name for name, setting in plan.settings.items() if setting.role == "ablation"]
    costs = read_costs(given.costs)
    for name in given.only or ablations:
        new = measured(config_of(plan, name), given.rounds)
        costs = {key: cost for key, cost in costs.items() if key[0] != name}
        costs |= {(name, signal): cost for signal, cost in new.items()}
        write_costs(given.costs, costs)
        say(f"{name}: {len(new)} signals")


def measured(config: Config, rounds: int) -> dict[str, Cost]:
    """Signal -> its cost, on the network and the data of a config."""
    splits = build_splits(config.data, limit_eval=INPUTS)
    model = build_model(config.model, splits.train, splits.num_classes).eval()
    train = list(splits.train.head(INPUTS).batches(EVAL_BATCH))
    test = list(splits.test.head(INPUTS).batches(EVAL_BATCH))
    return {
        name: cost(model, config, name, train=train, test=test, rounds=rounds)
        for name in config.signals
    }


def cost(
    model: Classifier, config: Config, name: str, *, train: Batches, test: Batches, rounds: int
) -> Cost:
    """The cost of one signal; it leaves the model as it was."""
    signal = config.signals[name]
    wrapped = build_signals(config, model, recipe=signal.recipe)[name]
    try:
        fit = None
        if signal.recipe == "bits":
            options = fit_options(signal)
            fit = ratio(lambda: wrapped.fit(train, **options), bare(model, train), rounds)
        wrapped.calibrate(test, method=signal.aggregation)
        return Cost(identity(config), fit, ratio(scored(wrapped, test), bare(model, test), rounds))
    finally:
        wrapped.unwrap()


def fit_options(signal: SignalConfig) -> FitOptions:
    """Those settings of a signal that a fit can be told."""
    values: dict[str, Any] = signal.model_dump()
    return {key: values[key] for key in FitOptions.__annotations__ if key in values}  # type: ignore[return-value]


def bare(model: Classifier, batches: Batches) -> Callable[[], object]:
    """Forward passes alone."""

    def run() -> None:
        with torch.no_grad():
            for x, _ in batches:
                model(x)

    return run


def scored(wrapped: WrappedModel, batches: Batches) -> Callable[[], object]:
    """Forward passes whose surprise is read."""

    def run() -> None:
        for x, _ in batches:
            _, surprise = wrapped.score(x)
            surprise.score  # noqa: B018

    return run


def ratio(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> float:
    """Of the median CPU times of two works that take turns, after one round to warm up."""
    times: tuple[list[float], list[float]] = ([], [])
    for index in range(rounds + 1):
        for work, taken in zip((ours, theirs), times, strict=True):
            began = time.process_time()
            work()
            if index:
                taken.append(time.process_time() - began)
    return statistics.median(times[0]) / statistics.median(times[1])


if __name__ == "__main__":
    main()
