#!/usr/bin/env python
"""What scoring costs: every cached-feature method from one pass, against one pass a method.

    python scripts/bench_scoring.py RUN [--seed 0] [--inputs 10000] [--rounds 3] [--threads 2]

RUN is a finished run, such as one of `nervecode bench --preset fashion_10`. Five works take turns,
and medians are compared: a bare forward pass; one pass that keeps features and records the codes;
the methods' own arithmetic on features that are there; what the stage `score` does, which is the
last two together; and a bare pass for each method with its arithmetic, which is the least that
calling pytorch-ood's detectors one by one with the model can cost.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from nervecode.lab.data.samples import EVAL_BATCH, as_float
from nervecode.lab.data.splits import build_splits
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.features import Features, extract
from nervecode.lab.models.signals import TraceRecorder
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.checkpoint import load_calibrated


def works(run: RunDir, seed: int, inputs: int) -> tuple[dict[str, Callable[[], object]], int, int]:
    """The works by name, how many methods there are, and how many inputs."""
    splits = build_splits(run.config.data)
    trained = load_calibrated(run, seed, device=torch.device("cpu"))
    samples, quiet = splits.test.head(inputs), Progress()
    train = extract(trained.model, splits.train, title="", progress=quiet)
    names = [name for name in run.config.bench.detectors if not DETECTORS[name].slow]
    fitted = {name: DETECTORS[name](train, trained.model) for name in names}
    features = extract(trained.model, samples, title="", progress=quiet)

    def forward() -> None:
        with torch.no_grad():
            for x, _ in samples.batches(EVAL_BATCH):
                trained.model(as_float(x))

    def arithmetic() -> None:
        for scorer in fitted.values():
            scorer(features)

    def one_pass() -> Features:
        recorders = {name: TraceRecorder(one) for name, one in trained.signals.items()}
        watching = [recorder.watching for recorder in recorders.values()]
        found = extract(trained.model, samples, title="", watching=watching, progress=quiet)
        for name, recorder in recorders.items():
            trained.signals[name].calibration.scores_of(recorder.layers())
        return found

    def score() -> None:
        found = one_pass()
        for scorer in fitted.values():
            scorer(found)

    def one_by_one() -> None:
        for scorer in fitted.values():
            forward()
            scorer(features)

    found: dict[str, Callable[[], object]] = {
        "forward": forward, "one pass": one_pass, "arithmetic": arithmetic, "score": score,
        "one by one": one_by_one,
    }  # fmt: skip
    return found, len(fitted), len(samples)


def medians(chosen: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median seconds of each work; they take turns, after one round to warm up."""
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for index in range(rounds + 1):
        for name, work in chosen.items():
            began = time.perf_counter()
            work()
            if index:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    run = RunDir(given.run)
    chosen, count, inputs = works(run, given.seed, given.inputs)
    found = medians(chosen, given.rounds)
    print(f"{run.meta['name']}, {inputs:,} inputs, {count} methods, {given.threads} threads")
    print("| work | seconds |\n| --- | ---: |")
    for name, seconds in found.items():
        print(f"| {name} | {seconds:.2f} |")
    own = found["one pass"] / found["forward"]
    print(f"one pass with all codes over a bare one: {own:.2f} (target: under 1.3)")
    print(f"one by one over score: {found['one by one'] / found['score']:.1f} (target: at least 5)")


if __name__ == "__main__":
    main()
