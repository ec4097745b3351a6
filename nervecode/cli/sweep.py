"""`nervecode sweep`."""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli.options import Overrides, Seeds, parse_seeds
from nervecode.cli.show import progress, say, show_table
from nervecode.errors import InputError, NervecodeError

if TYPE_CHECKING:
    from nervecode.lab.config.resolve import Resolved
    from nervecode.lab.sweep.cells import Cell, Sweep
    from nervecode.lab.sweep.launchers import Task
    from nervecode.lab.sweep.state import State

PRINT = "print"


def sweep(
    configs: Annotated[
        list[str] | None, typer.Argument(metavar="CONFIG", help="Config files or presets.")
    ] = None,
    seeds: Seeds = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(help="Values of a setting, each of which is run: key=a,b,c."),
    ] = None,
    override: Overrides = None,
    outdir: Annotated[Path, typer.Option(help="The folder of the sweep.")] = Path("runs/sweep"),
    launcher: Annotated[
        str, typer.Option(help="local, print, slurm or ray: what starts the cells.")
    ] = "local",
    launcher_option: Annotated[
        list[str] | None, typer.Option(help="An option of the launcher, as key=value.")
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time; default one a core.")
    ] = None,
    only_failed: Annotated[
        bool, typer.Option("--only-failed", help="Run those that failed, and no other.")
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first that fails.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Run configs with every seed and combination of a grid. Resumed where it stands.

    Without a config, it goes on with the sweep that is in the folder.

    Example: nervecode sweep digits --grid train.epochs=10,30 --seeds 0,1,2
    """
    from nervecode.lab.sweep import launchers
    from nervecode.lab.sweep.cells import Sweep, read_sweep, write_sweep

    start = None if launcher == PRINT else launchers.launcher(launcher)
    options = _options(launcher_option or [])
    launchers.check_options(launcher, options)
    if not configs and (seeds or grid or override):
        raise InputError("sweep: found --seeds, --grid or -o without a config to apply them to")
    cells = _cells(configs, seeds, grid or [], override or []) if configs else None
    found = read_sweep(outdir) if cells is None else Sweep(outdir, tuple(cells))
    due = _due(found, only_failed)
    if launcher == "local":  # elsewhere, the data may be where the cells run
        _require_data(due)
    if cells is not None:
        found = write_sweep(outdir, cells)
    if start is None:
        for cell in due:
            typer.echo(shlex.join(["nervecode", "run-cell", str(outdir), cell.id]))
        return
    say(f"{len(found.cells)} cells in {outdir}, {len(found.cells) - len(due)} of them not due")
    pool = launchers.Pool(outdir, jobs or launchers.cores(), options)
    if due:
        _run(found, start([_task(cell, outdir) for cell in due], pool), len(due), fail_fast)
    _finish(found, as_json)


def _due(sweep: Sweep, only_failed: bool) -> list[Cell]:
    """The cells that are to be run."""
    from nervecode.lab.sweep.state import FAILED, UNFINISHED, state_of

    wanted = FAILED if only_failed else (*FAILED, *UNFINISHED, "running")
    words = {cell.id: state_of(cell, sweep.folder).word for cell in sweep.cells}
    return [
        cell
        for cell in sweep.cells
        if words[cell.id] in wanted
        # What did not reach its gate would not another time.
        and (only_failed or words[cell.id] != "gate failed")
    ]


def _require_data(cells: Sequence[Cell]) -> None:
    """Tell every set that is absent before any cell is run."""
    from nervecode.lab.data.catalogue import require

    data = [cell.config.data for cell in cells]
    require(spec for one in data for spec in (one.id, *one.near, *one.far))


def _cells(
    configs: Sequence[str], seeds: str | None, grid: Sequence[str], override: Sequence[str]
) -> list[Cell]:
    """The cells of a command line, each validated."""
    from nervecode.lab.sweep.cells import expand, grid_of

    chosen = parse_seeds(seeds)
    fixed: dict[str, Any] = {} if chosen is None else {"seeds": chosen}
    resolvers = [functools.partial(_resolve, name, override, fixed) for name in configs]
    cells, doubled = expand(resolvers, grid_of(grid))
    if doubled:
        say(f"{doubled} cells are the same as others, and are run once")
    return cells


def _resolve(
    name: str, override: Sequence[str], fixed: dict[str, Any], settings: dict[str, Any]
) -> Resolved:
    """A config file, or a preset, with further settings."""
    from nervecode.lab.config.presets import preset_path
    from nervecode.lab.config.resolve import resolve

    is_file = name.endswith((".yaml", ".yml")) or Path(name).is_file()
    if not is_file:
        preset_path(name)  # the nearest name, before anything else
    return resolve(
        preset=None if is_file else name,
        file=Path(name) if is_file else None,
        overrides=override,
        settings={**fixed, **settings},
    )


def _options(texts: Sequence[str]) -> dict[str, Any]:
    from nervecode.lab.config.yaml import parse_value

    found = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError(f"--launcher-option {text}: allowed: key=value")
        found[key] = parse_value(value, f"--launcher-option {key}")
    return found


def _task(cell: Cell, folder: Path) -> Task:
    from nervecode.lab.sweep.launchers import Task

    words = (sys.executable, "-m", "nervecode", "run-cell", str(folder.resolve()), cell.id)
    return Task(cell.id, words, folder / "logs" / f"{cell.id}.log")


def _run(sweep: Sweep, ended: Iterator[tuple[Task, int]], total: int, fail_fast: bool) -> None:
    """Follow the cells as they end."""
    cells = {cell.id: cell for cell in sweep.cells}
    failed = 0
    with sweep.claimed(), progress() as shown, closing(ended):  # type: ignore[type-var]
        shown.start("cells", total)
        for task, status in ended:
            failed += status != 0
            shown.advance(failed=failed)
            if status:
                cell = cells[task.id]
                shown.tell(f"{cell.label} seed {cell.seed}: exit status {status}; {task.log}")
                if fail_fast:
                    return


def _finish(sweep: Sweep, as_json: bool) -> None:
    """Show how every cell stands, and write it down.

    Raises:
        NervecodeError: some are not done.
    """
    from nervecode.files import csv_text, write_json, write_text
    from nervecode.lab.sweep.state import cell_table, config_table, records, state_of

    states: list[State] = [state_of(cell, sweep.folder) for cell in sweep.cells]
    rows = records(sweep.cells, states)
    write_text(sweep.folder / "sweep.csv", csv_text(rows))
    write_json(sweep.folder / "results.json", rows)
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "cells": rows}))
    else:
        show_table(cell_table(sweep.cells, states))
        summary = config_table(sweep.cells, states)
        if summary.body:
            show_table(summary)
    left = [state.word for state in states if state.word != "done"]
    if left:
        counts = ", ".join(f"{left.count(word)} {word}" for word in dict.fromkeys(left))
        raise NervecodeError(
            f"{len(left)} of {len(states)} cells are not done: {counts}; "
            f"`nervecode sweep --outdir {sweep.folder}` goes on, --only-failed repeats those that "
            "failed"
        )
