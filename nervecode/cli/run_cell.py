"""`nervecode run-cell`."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli import bench as bench_command
from nervecode.cli.options import command_line
from nervecode.cli.several import several
from nervecode.errors import NervecodeError

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
) -> None:
    """Run one cell of a sweep. As `nervecode bench` runs a config; resumed where it stands.

    Example: nervecode run-cell runs/sweep 3f2a9c
    """
    from nervecode.lab.ranks.job import current
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.sweep.cells import read_sweep

    if until_eof:
        threading.Thread(target=_listen, name="standard input", daemon=True).start()
    found = read_sweep(folder).cell(cell)
    root = found.root(folder)
    if current().leads:
        run = RunDir.create(found.config, folder, command=command_line(), name=root.name)
        _wait_for(run)
    current().meet()
    bench_command.bench.__wrapped__(run=root, repair=True)  # type: ignore[attr-defined]


def _wait_for(run: RunDir) -> None:
    """Let another process that writes to the run end.

    Raises:
        NervecodeError: it does not.
    """
    begun = time.monotonic()
    while run.lock.is_held():
        if time.monotonic() - begun > PATIENCE:
            raise NervecodeError(f"{run.root}: {run.lock.owner()} is writing to it")
        time.sleep(PAUSE)


def _listen() -> None:
    """End this process, once it has saved what it does, when whoever started it is gone."""
    while os.read(0, 1):  # not through a buffer, whose lock the end of the process would wait for
        pass
    os.kill(os.getpid(), signal.SIGTERM)
