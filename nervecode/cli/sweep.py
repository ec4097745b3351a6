"""`nervecode sweep`."""

from __future__ import annotations

import functools
import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli.options import Overrides, Seeds, TrustCode, parse_seeds
from nervecode.cli.show import progress, say, show_table
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.config.resolve import Resolved
    from nervecode.lab.sweep.cells import Cell, Sweep

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
        int | None, typer.Option(min=1, help="Cells at a time; default: one per core.")
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
    trust_code: TrustCode = False,
) -> None:
    """Run configs with every seed and combination of a grid. Goes on where it stopped.

    Without a config, it goes on with the sweep that is in the folder.

    Example: nervecode sweep digits --grid train.epochs=10,30 --seeds 0,1,2
    """
    from nervecode.lab.machine.provenance import cores
    from nervecode.lab.sweep import launchers
    from nervecode.lab.sweep.cells import Sweep, read_sweep, write_sweep
    from nervecode.lab.sweep.run import cell_words, due_cells, require_data, run_cells

    start = None if launcher == PRINT else launchers.launcher(launcher)
    options = _options(launcher_option or [])
    launchers.check_options(launcher, options)
    if not configs and (seeds or grid or override):
        raise InputError("sweep: found --seeds, --grid or -o without a config to apply them to")
    cells = _cells(configs, seeds, grid or [], override or []) if configs else None
    chosen = read_sweep(outdir) if cells is None else Sweep(outdir, tuple(cells))
    due = due_cells(chosen, only_failed=only_failed)
    if launcher == "local":  # elsewhere, the data may be where the cells run
        require_data(due)
    if cells is not None:
        chosen = write_sweep(outdir, cells)
    if start is None:
        for cell in due:
            typer.echo(shlex.join(["nervecode", *cell_words(cell, outdir)]))
        return
    say(f"{len(chosen.cells)} cells in {outdir}, {len(chosen.cells) - len(due)} of them not due")
    if due:
        pool = launchers.Pool(outdir, jobs or cores(), options)
        with progress() as shown:
            run_cells(chosen, due, start, pool, progress=shown, fail_fast=fail_fast)
    _finish(chosen, as_json)


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

    options = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise InputError(f"--launcher-option {text}: allowed: key=value")
        options[key] = parse_value(value, f"--launcher-option {key}")
    return options


def _finish(chosen: Sweep, as_json: bool) -> None:
    """Show how every cell stands, and write it down."""
    from nervecode.lab.run.commands import command
    from nervecode.lab.sweep.run import check_done, differing_sets, write_states
    from nervecode.lab.sweep.state import cell_table, config_table

    states, rows = write_states(chosen)
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "cells": rows}))
    else:
        show_table(cell_table(chosen.cells, states))
        summary = config_table(chosen.cells, states)
        if summary.body:
            show_table(summary)
    if sets := differing_sets(chosen, states):
        say(
            f"Not the same data in every cell: {', '.join(sets)}; "
            f"`{command('bench', chosen.folder / 'CELL')}` makes a cell again "
            "with the data as they are now"
        )
    check_done(chosen, states)
