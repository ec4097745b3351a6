"""`nervecode run-cell`."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.opening import open_run
from nervecode.cli.options import TrustCode, command_line
from nervecode.cli.several import several
from nervecode.cli.show import say
from nervecode.cli.stage import do_bench
from nervecode.errors import InputError, NervecodeError

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir

PATIENCE = 60.0  # seconds that another process has to leave the cell
PAUSE = 0.5


@several
def run_cell(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of a sweep.")],
    cell: Annotated[str, typer.Argument(metavar="ID", help="The id of a cell, or its beginning.")],
    until_eof: Annotated[
        bool, typer.Option("--until-eof", help="End when standard input ends.")
    ] = False,
    no_plots: Annotated[
        bool, typer.Option("--no-plots", help="Tables alone: neither plots nor the report.")
    ] = False,
    trust_code: TrustCode = False,
) -> None:
    """Run one cell of a sweep. As `nervecode bench` runs a config; resumed where it stands.

    Example: nervecode run-cell runs/sweep 3f2a9c
    """
    from nervecode.lab.ranks.job import current
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.stages.bench import guarded
    from nervecode.lab.sweep.cells import read_sweep

    if until_eof:
        threading.Thread(target=_listen, name="standard input", daemon=True).start()
    chosen = read_sweep(folder).cell(cell)
    root = chosen.root(folder)
    if current().leads:
        run = RunDir.create(chosen.config, folder, command=command_line(), name=root.name)
        if differing := chosen.differing(run.config):
            raise InputError(
                f"{root}: found a run of other settings ({', '.join(differing)}), allowed: of cell "
                f"{chosen.id}; move it away, and the cell is run anew"
            )
        _wait_for(run)
    current().meet()
    began = time.monotonic()
    try:
        opened, config, prepared = open_run("run-cell", root)
    except InputError:  # what cannot begin has failed: nothing is to go on
        if current().leads:
            with guarded(RunDir(root)):
                raise
        raise
    say(f"Run: {opened.root}")
    do_bench(opened, prepared, config=config, began=began, repair=True, plots=not no_plots)


def _wait_for(run: RunDir) -> None:
    """Let another process that writes to the run end.

    Raises:
        NervecodeError: it does not.
    """
    began = time.monotonic()
    while run.lock.is_held():
        if time.monotonic() - began > PATIENCE:
            raise NervecodeError(f"{run.root}: {run.lock.owner()} is writing to it")
        time.sleep(PAUSE)


def _listen() -> None:
    """End this process, once it has saved what it does, when whoever started it is gone."""
    while os.read(0, 1):  # not through a buffer, whose lock the end of the process would wait for
        pass
    os.kill(os.getpid(), signal.SIGTERM)
