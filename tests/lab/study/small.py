"""A small plan, and a launcher that starts no process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from nervecode.lab.machine.progress import Progress
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.bench import guarded, prepare, run_bench
from nervecode.lab.study.plan import Plan, cells_of
from nervecode.lab.study.study import run_cells_of
from nervecode.lab.sweep.cells import read_sweep
from nervecode.lab.sweep.launchers import Pool, Task

SMALL = """
title: Small
seeds: [0, 1]
excluded: {odin: too slow}
overrides:
  - bench.detectors=[energy, mahalanobis, knn, msp]
  - bench.limit_eval=30
  - bench.accuracy_gate=0
  - model.width=8
  - train.epochs=1
  - data.far=[uniform_noise]
  - data.shift=[hflip]
settings:
  one: {preset: digits, role: development, note: the first}
  two: {preset: digits, overrides: ["data.hold_out=[0, 5]"]}
  far: {preset: digits, overrides: ["data.hold_out=[]", "data.near=[]"]}
"""


def here(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
    """A launcher that starts no process."""
    for task in tasks:
        cell = read_sweep(pool.folder).cell(task.id)
        name = cell.root(pool.folder).name
        run = RunDir.create(cell.config, pool.folder, command="x", name=name)
        with guarded(run):
            run_bench(run, prepare(cell.config), progress=Progress())
        yield task, 0


def run_all(plan: Plan, outdir: Path) -> None:
    """Every cell of a plan."""
    cells = [cell for name in plan.settings for cell in cells_of(plan, name)]
    run_cells_of(cells, outdir, command="x", progress=Progress(), launcher=here)
