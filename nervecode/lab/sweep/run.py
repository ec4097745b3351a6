"""Run: the cells of a sweep that are due, and how each stands then, written down."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from nervecode.errors import NervecodeError
from nervecode.files import csv_text, write_json, write_text
from nervecode.lab.data.locate import require_sets
from nervecode.lab.data.partition import kept_classes
from nervecode.lab.data.registry import DATASETS
from nervecode.lab.machine.progress import Progress
from nervecode.lab.models.user_code import is_trusted
from nervecode.lab.results.compare import differing_data
from nervecode.lab.run.commands import command
from nervecode.lab.run.directory import RunDir
from nervecode.lab.sweep.cells import Cell, Sweep
from nervecode.lab.sweep.launchers import Launcher, Pool, Task
from nervecode.lab.sweep.state import FAILED, UNFINISHED, State, records, state_of


def due_cells(sweep: Sweep, *, only_failed: bool = False) -> list[Cell]:
    """The cells that are to be run: what failed, and without `only_failed` what is not finished.

    What did not reach its gate would not another time, and is run again only on request.
    """
    wanted = FAILED if only_failed else ("failed", "damaged", "running", *UNFINISHED)
    return [cell for cell in sweep.cells if state_of(cell, sweep.folder).word in wanted]


def require_data(cells: Sequence[Cell]) -> None:
    """Tell what is absent before any cell is run: sets, or classes of those read by their name.

    Raises:
        InputError: names the sets, and the commands that get them; or the first of the classes.
    """
    configs = [cell.config.data for cell in cells]
    require_sets(configs)
    for data in {(data.id, data.hold_out): data for data in configs}.values():
        if data.hold_out and data.id in DATASETS:
            kept_classes(data, DATASETS[data.id]())


def run_cells(
    sweep: Sweep,
    cells: Sequence[Cell],
    launcher: Launcher,
    pool: Pool,
    *,
    progress: Progress,
    fail_fast: bool = False,
    plots: bool = True,
) -> None:
    """Run cells and follow them as they end; one that fails is told, and does not stop the others.

    Args:
        sweep: whose folder is claimed meanwhile.
        cells: those that are due.
        launcher: what starts their commands.
        pool: how many at a time, and the launcher's options.
        progress: told what is done.
        fail_fast: stop at the first that fails.
        plots: whether cells draw plots and write a report behind their tables.
    """
    names = {cell.id: f"{cell.label} seed {cell.seed}" for cell in cells}
    failed = 0
    ended = launcher([task_of(cell, sweep.folder, plots=plots) for cell in cells], pool)
    with sweep.claimed(), closing(ended):  # type: ignore[type-var]
        progress.start("cells", len(cells))
        for task, status in ended:
            failed += status != 0
            progress.advance(failed=failed)
            if status:
                progress.tell(f"{names[task.id]}: exit status {status}; {task.log}")
                if fail_fast:
                    return


def cell_words(cell: Cell, folder: Path, *, plots: bool = True) -> list[str]:
    """The words behind `nervecode` that run a cell, with plots and report or without.

    Code that this process trusts is trusted there too.
    """
    options = [*["--trust-code"] * is_trusted(), *["--no-plots"] * (not plots)]
    return ["run-cell", str(folder), cell.id, *options]


def task_of(cell: Cell, folder: Path, *, plots: bool = True) -> Task:
    """The command that runs a cell, on any machine that sees the folder."""
    words = (sys.executable, "-m", "nervecode", *cell_words(cell, folder.resolve(), plots=plots))
    return Task(cell.id, words, folder / "logs" / f"{cell.id}.log")


def write_states(sweep: Sweep) -> tuple[list[State], list[dict[str, Any]]]:
    """How every cell stands, and the rows of it that are written: `sweep.csv`, `results.json`."""
    states = [state_of(cell, sweep.folder) for cell in sweep.cells]
    rows = records(sweep.cells, states)
    write_text(sweep.folder / "sweep.csv", csv_text(rows))
    write_json(sweep.folder / "results.json", rows)
    return states, rows


def differing_sets(sweep: Sweep, states: Sequence[State]) -> list[str]:
    """The splits that cells of the same data settings do not share, as files changed in between."""
    together: dict[Any, list[RunDir]] = {}
    for cell, state in zip(sweep.cells, states, strict=True):
        if state.word == "done":
            settings = (cell.config.data, cell.config.bench.limit_eval)
            together.setdefault(settings, []).append(RunDir(cell.root(sweep.folder)))
    return sorted({name for runs in together.values() for name in differing_data(runs)})


def check_done(sweep: Sweep, states: Sequence[State]) -> None:
    """Refuse to call a sweep done before all its cells are.

    Raises:
        NervecodeError: counts those that are not.
    """
    left = [state.word for state in states if state.word != "done"]
    if left:
        counts = ", ".join(f"{left.count(word)} {word}" for word in dict.fromkeys(left))
        raise NervecodeError(
            f"{len(left)} of {len(states)} cells are not done: {counts}; "
            f"`{command('sweep', '--outdir', sweep.folder)}` goes on, "
            "--only-failed repeats those that failed"
        )
