#!/usr/bin/env python
"""What scoring in shards costs: equality, throughput and peak memory.

    python scripts/bench_shards.py [--inputs 1000000] [--shards 10] [--threads 1]

Trains the preset `digits` for a few epochs in a temporary folder, makes synthetic inputs in a
mapped array, and runs `nervecode score` on all of them, on a tenth of them, and in shards one
after the other, each in a process of its own whose peak memory the system tells.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SHAPE = (1, 8, 8)
CHUNK = 10_000
TRAINING = ("-o", "train.epochs=3", "-o", "bench.detectors=[]", "--seeds", "0")


@dataclass(frozen=True)
class Cost:
    """Inputs a second of the scoring itself; CPU seconds and peak in MB of the whole process."""

    rate: float
    cpu: float
    peak: float


def nervecode(*arguments: object, threads: int) -> Cost:
    """One command in a process of its own."""
    words = [sys.executable, "-m", "nervecode", *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with tempfile.TemporaryFile("w+") as told:
        process = subprocess.Popen(words, stdout=told, stderr=told, env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        told.seek(0)
        text = told.read()
    if process.returncode:
        raise SystemExit(f"{' '.join(words)}\n{text}")
    rate = re.search(r"(\d+) inputs a second", text)
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(float(rate[1]) if rate else float("nan"), cpu, usage.ru_maxrss / 1024)


def synthetic(path: Path, count: int) -> Path:
    """An `.npy` file of digits-sized images: grey noise of every brightness."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, *SHAPE))
    generator = np.random.default_rng(0)
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        bright = generator.integers(1, 257, (size, 1, 1, 1))
        array[start : start + size] = generator.integers(0, bright, (size, *SHAPE))
    array.flush()
    return path


def compare(folder: Path, inputs: int, shards: int, threads: int) -> None:
    nervecode(
        "train", "--preset", "digits", *TRAINING, "--outdir", folder / "runs", threads=threads
    )
    (run,) = (folder / "runs").iterdir()
    nervecode("calibrate", run, threads=threads)
    source, whole = synthetic(folder / "inputs.npy", inputs), folder / "whole.npz"
    tenth = synthetic(folder / "tenth.npy", inputs // 10)
    score = ("score", run, "--input")
    small = nervecode(*score, tenth, "--output", folder / "tenth.npz", threads=threads)
    large = nervecode(*score, source, "--output", whole, threads=threads)
    told = ("--output", folder / "part.npz", "--shard")
    parts = [
        nervecode(*score, source, *told, f"{i + 1}/{shards}", threads=threads)
        for i in range(shards)
    ]
    # A shard without inputs costs what a process costs before its first.
    start = nervecode(*score, source, *told, f"1/{10 * inputs}", threads=threads)
    (folder / f"part.shard-{1:0{len(str(10 * inputs))}}-of-{10 * inputs}.npz").unlink()
    merged = folder / "merged.npz"
    merge = nervecode("merge", *folder.glob("part.*"), "--output", merged, threads=threads)
    same = merged.read_bytes() == whole.read_bytes()
    rate, cpu = (statistics.median(getattr(part, n) for part in parts) for n in ("rate", "cpu"))
    effort = [1e6 * (large.cpu - start.cpu) / inputs, 1e6 * (cpu - start.cpu) / inputs * shards]
    print(f"{inputs:,} inputs, {shards} shards, {threads} threads")
    print(f"merged file equals the unsharded one: {'yes' if same else 'NO'}")
    print(f"inputs a second, unsharded: {large.rate:,.0f}; a shard, median: {rate:,.0f} "
          f"({100 * rate / large.rate - 100:+.1f} %)")  # fmt: skip
    print(f"CPU microseconds an input, unsharded: {effort[0]:.1f}; a shard, median: "
          f"{effort[1]:.1f} ({100 * effort[1] / effort[0] - 100:+.1f} %); "
          f"to start, once a process: {start.cpu:.1f} s")  # fmt: skip
    print(f"peak memory, {inputs // 10:,} inputs: {small.peak:.0f} MB; {inputs:,}: "
          f"{large.peak:.0f} MB ({100 * large.peak / small.peak - 100:+.1f} %); a shard, largest: "
          f"{max(part.peak for part in parts):.0f} MB; merge: {merge.peak:.0f} MB")  # fmt: skip
    print(f"merge, CPU microseconds an input: {1e6 * merge.cpu / inputs:.1f}; "
          f"bytes an input: {merged.stat().st_size / inputs:.1f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--shards", type=int, default=10)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), arguments.inputs, arguments.shards, arguments.threads)


if __name__ == "__main__":
    main()
