#!/usr/bin/env python
"""Weak scaling: what each of several processes does, beside one process by itself.

    python scripts/bench_scaling.py [--processes 2] [--rounds 3] [--widths 32 128]

Each process has as much to do as the one alone: a batch of its own size in training, a shard of the
same length in scoring. One and several take turns, with one thread a process; medians are compared.
Efficiency is the throughput of all over that of one, times their number. The last part says how
many photographs a core decodes in a second, which bounds what many GPUs can be fed.
"""

from __future__ import annotations

import argparse
import csv
import io
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_image

BATCH = 64  # of each process
INPUTS = 60_000  # of each process
EPOCHS = 3
SIDE = 256  # pixels of a decoded photograph
DECODED = 200


def start(*arguments: object) -> subprocess.Popen[str]:
    """A command of one thread in a process of its own."""
    words = [sys.executable, "-m", "nervecode", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    )


def finish(processes: Sequence[subprocess.Popen[str]]) -> list[str]:
    """What each of several commands that run at the same time prints."""
    found = [process.communicate()[0] for process in processes]
    for process, text in zip(processes, found, strict=True):
        if process.returncode:
            raise SystemExit(f"{process.args}\n{text}")
    return found


def train(folder: Path, width: int, processes: int) -> float:
    """Images a second of the whole job, median over the epochs after the first."""
    size = BATCH * processes
    settings = [f"model.width={width}", f"train.batch_size={size}", f"train.epochs={EPOCHS}"]
    chosen = [word for one in ["model.name=resnet18", *settings] for word in ("-o", one)]
    with tempfile.TemporaryDirectory(dir=folder) as runs:
        where = ("--seeds", 0, "--nproc", processes, "--outdir", runs)
        finish([start("train", "--preset", "digits", *chosen, *where)])
        (metrics,) = Path(runs).glob("*/metrics/*.csv")
        rows = list(csv.DictReader(metrics.read_text().splitlines()))
    return statistics.median(float(row["samples_per_second"]) for row in rows[1:])


def score(run: Path, inputs: Sequence[Path], processes: int) -> float:
    """Inputs a second of several processes that score one array each at the same time."""
    texts = finish([start("score", run, "--input", path) for path in inputs[:processes]])
    return sum(float(found[1]) for t in texts if (found := re.search(r"(\d+) inputs a sec", t)))


def prepare(folder: Path, processes: int) -> tuple[Path, list[Path]]:
    """A calibrated run, and one array of inputs for each process."""
    few = ("--seeds", 0, "-o", "train.epochs=3", "-o", "bench.detectors=[]")
    finish([start("train", "--preset", "digits", *few, "--outdir", folder / "runs")])
    (run,) = (folder / "runs").iterdir()
    finish([start("calibrate", run)])
    generator = np.random.default_rng(0)
    inputs = [folder / f"inputs_{i}.npy" for i in range(processes)]
    for path in inputs:
        np.save(path, generator.integers(0, 256, (INPUTS, 1, 8, 8), dtype=np.uint8))
    return run, inputs


def decode() -> tuple[float, int]:
    """JPEG photographs that one core opens and brings to 224 pixels in a second; bytes of one."""
    held = io.BytesIO()
    Image.fromarray(load_sample_image("china.jpg")).resize((SIDE, SIDE)).save(held, "JPEG")
    began = time.process_time()
    for _ in range(DECODED):
        with Image.open(held) as image:
            image.convert("RGB").resize((224, 224), Image.Resampling.BILINEAR)
    return DECODED / (time.process_time() - began), len(held.getvalue())


def compare(work: Callable[[int], float], processes: int, rounds: int) -> tuple[float, float]:
    """Median throughput of one process and of several; they take turns."""
    pairs = [(work(1), work(processes)) for _ in range(rounds)]
    one, several = zip(*pairs, strict=True)
    return statistics.median(one), statistics.median(several)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="+", default=[32, 128])
    given = parser.parse_args()
    count = given.processes
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run, inputs = prepare(folder, count)
        works: dict[str, Callable[[int], float]] = {
            f"train, ResNet-18 width {width}": partial(train, folder, width)
            for width in given.widths
        }
        works["score, small CNN"] = lambda n: score(run, inputs, n)
        print(f"| work | 1 process, a second | {count} processes | efficiency |")
        print("| --- | ---: | ---: | ---: |")
        for title, work in works.items():
            one, several = compare(work, count, given.rounds)
            share = several / (count * one)
            print(f"| {title} | {one:,.0f} | {several:,.0f} | {share:.2f} |", flush=True)
    rate, size = decode()
    print(f"decoding: {rate:,.0f} photographs of {SIDE} x {SIDE} pixels and {size:,} bytes "
          "a second and core")  # fmt: skip


if __name__ == "__main__":
    main()
