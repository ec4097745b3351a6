#!/usr/bin/env python
"""A grid over settings of a preset, to CSV: one row per cell and group.

    python scripts/ablate_grid.py               # K, D, T and the selection of layers, on toy
    python scripts/ablate_grid.py --fast        # two values each, one seed
    python scripts/ablate_grid.py --preset digits train.epochs=5,10

Each axis is `key=value,value,...`, any setting of a config. Every cell is a run of its own below
--outdir, and a row is written as soon as its cell is done: AUROC, what the codes weigh (numbers
kept for one seed) and the seconds of the cell.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

from nervecode.errors import NervecodeError
from nervecode.files import check_new
from nervecode.lab.config.resolve import resolve
from nervecode.lab.machine.progress import Progress
from nervecode.lab.results.rows import summarise
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import PRIMARY, Config
from nervecode.lab.stages.bench import guarded, prepare, run_bench

SIGNAL = f"signals.{PRIMARY}"
AXES = (
    f"{SIGNAL}.num_codes=16,4,64",
    f"{SIGNAL}.coding_dim=8,2,32",
    f"{SIGNAL}.temperature=1.0,0.5,2.0",
    f"{SIGNAL}.layers=all_blocks,first_linear,last_block",
)
COLUMNS = ("group", "auroc_mean", "auroc_std", "accuracy", "passed", "codes", "seconds", "run")


def cells(axes: list[str], *, fast: bool) -> Iterator[list[str]]:
    """Every combination of the values, as overrides; with `fast`, of the first two of each axis."""
    parts = []
    for axis in axes:
        key, _, values = axis.partition("=")
        chosen = values.split(",")[: 2 if fast else None]
        parts.append([f"{key}={value}" for value in chosen])
    yield from map(list, itertools.product(*parts))


def run_cell(config: Config, overrides: list[str], outdir: Path) -> list[dict[str, Any]]:
    """Bench one cell; returns the rows of its primary signal, one per group."""
    run = RunDir.create(config, outdir, command=" ".join(sys.argv))
    prepared = prepare(config)
    began = time.monotonic()
    with guarded(run):
        outcome = run_bench(run, prepared, allow_low_accuracy=True, progress=Progress())
    assert outcome is not None  # one process leads itself
    accuracy = sum(outcome.gate["accuracy"].values()) / len(outcome.gate["accuracy"])
    about = {
        "accuracy": accuracy,
        "passed": outcome.gate["passed"],
        "codes": size_of_codes(run, config.seeds[0]),
        "seconds": round(time.monotonic() - began, 2),
        "run": run.root.name,
    }
    settings = dict(override.split("=", 1) for override in overrides)
    found = [row for row in summarise(outcome.rows) if row["method"] == PRIMARY]
    return [settings | {name: row[name] for name in COLUMNS[:3]} | about for row in found]


def size_of_codes(run: RunDir, seed: int) -> int:
    """How many numbers the codes of the primary signal hold."""
    prefix = f"signals.{PRIMARY}.coders."
    with safe_open(run.root / "calibration" / f"seed_{seed}.safetensors", framework="np") as file:
        names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
        shapes = [file.get_slice(name).get_shape() for name in names]
    return sum(map(math.prod, shapes))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("axes", nargs="*", default=list(AXES), metavar="KEY=VALUE,...")
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--outdir", type=Path, default=Path("runs/ablation"))
    parser.add_argument("--fast", action="store_true", help="two values of each axis, one seed")
    parser.add_argument("--force", action="store_true", help="replace the CSV of a former grid")
    chosen = parser.parse_args()
    keys = [axis.partition("=")[0] for axis in chosen.axes]
    path = chosen.outdir / "ablation.csv"
    grid = list(cells(chosen.axes, fast=chosen.fast))
    seeds = {"seeds": [0]} if chosen.fast else {}
    configs = [resolve(preset=chosen.preset, overrides=o, settings=seeds).config for o in grid]
    path.parent.mkdir(parents=True, exist_ok=True)
    check_new(path, force=chosen.force)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*keys, *COLUMNS])
        writer.writeheader()
        for number, (config, overrides) in enumerate(zip(configs, grid, strict=True), start=1):
            rows = run_cell(config, overrides, chosen.outdir)
            writer.writerows(rows)
            file.flush()
            figures = " ".join(f"{row['group']} {100 * row['auroc_mean']:.2f}" for row in rows)
            print(f"{number}/{len(grid)} {' '.join(overrides)}: {figures}", file=sys.stderr)
    print(path)


if __name__ == "__main__":
    try:
        main()
    except NervecodeError as error:
        sys.exit(f"Error: {error}")
