"""Several: a command that several processes may run together."""

from __future__ import annotations

import functools
import inspect
import os
import signal
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated, Any

import typer

from nervecode.cli import show
from nervecode.cli.log import writes
from nervecode.cli.show import quiet
from nervecode.errors import InputError
from nervecode.lab.machine.interrupt import Interrupted
from nervecode.lab.ranks.place import LAUNCHED, TORCHRUN, place_in

Nproc = Annotated[
    int | None, typer.Option(help="Processes on this machine, one for each GPU where it has any.")
]
Nnodes = Annotated[
    int | None, typer.Option(help="Machines; start the same command on each of them.")
]
Rdzv = Annotated[
    str | None, typer.Option(metavar="HOST:PORT", help="Where they meet: a port of one of them.")
]
AllowWorldSizeChange = Annotated[
    bool,
    typer.Option(
        "--allow-world-size-change", help="Go on with what another number of processes began."
    ),
]
OPTIONS = {
    "nproc": (Nproc, None),
    "nnodes": (Nnodes, None),
    "rdzv": (Rdzv, None),
    "allow_world_size_change": (AllowWorldSizeChange, False),
}


def several(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of a job of several processes, and run it as one of them."""

    @functools.wraps(command)
    def run(
        nproc: int | None,
        nnodes: int | None,
        rdzv: str | None,
        allow_world_size_change: bool,
        **options: Any,
    ) -> None:
        place = place_in(os.environ)
        alone = nproc in (None, 1) and nnodes in (None, 1)
        if place is not None and (alone or TORCHRUN[0] in os.environ):
            _as_rank(place[0], allow_world_size_change, functools.partial(command, **options))
        elif not alone:
            from nervecode.lab.ranks.launch import launch

            processes, machines = (1 if n is None else n for n in (nproc, nnodes))
            if place is not None:
                _check_tasks(place[1], machines)
            raise typer.Exit(launch(sys.argv[1:], nproc=processes, nnodes=machines, rdzv=rdzv))
        elif rdzv is not None:
            raise InputError("--rdzv: is for several machines; give --nnodes too")
        else:
            _alone(allow_world_size_change, functools.partial(command, **options))

    own = inspect.signature(command, eval_str=True)
    kind = inspect.Parameter.KEYWORD_ONLY
    more = [
        inspect.Parameter(name, kind, default=default, annotation=annotation)
        for name, (annotation, default) in OPTIONS.items()
    ]
    run.__signature__ = own.replace(  # type: ignore[attr-defined]
        parameters=[*own.parameters.values(), *more]
    )
    run.__annotations__ = {n: p.annotation for n, p in own.parameters.items()}
    run.__annotations__ |= {name: annotation for name, (annotation, _) in OPTIONS.items()}
    return run


def _check_tasks(tasks: int, machines: int) -> None:
    """Refuse to start processes from tasks of srun that are meant to be the processes themselves.

    Raises:
        InputError: says what srun may be asked for.
    """
    if tasks != machines:
        raise InputError(
            f"--nproc: found in {tasks} tasks of srun, which work on one run without it; "
            f"allowed: one task a machine, with --nnodes {tasks} --rdzv HOST:PORT"
        )


def _alone(any_world: bool, work: Callable[[], None]) -> None:
    if not any_world:
        return work()
    from nervecode.lab.ranks.join import joined

    with joined(any_world=True):
        return work()


def _as_rank(rank: int, any_world: bool, work: Callable[[], None]) -> None:
    """Do the work as one of several; all but the first keep silent."""
    from torch.distributed.elastic.multiprocessing.errors import record

    from nervecode.lab.ranks.join import joined

    @record
    def main() -> None:
        with joined(any_world=any_world):
            work()

    try:
        if rank == 0:
            return main()
        quiet.set(True)
        writes.set(False)
        with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
            return main()
    finally:  # it ends now, and needs no one to tell it so
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def complain(error: BaseException, message: str, hint: str = "") -> None:
    """Tell the user of an error, unless another process of the job does."""
    try:
        place = place_in(os.environ)
    except InputError:
        place = None
    if place is None or (place[0] == 0 and LAUNCHED not in os.environ):
        show.complain(message, hint)
    elif isinstance(error, Interrupted):
        if place[0] == 0:
            show.complain(message, hint)
    elif LAUNCHED not in os.environ and not _is_told_by_the_first(error):
        show.complain(f"rank {place[0]}: {message}", hint)


def _is_told_by_the_first(error: BaseException) -> bool:
    """Bad input is found by all ranks; and one that lost another is not the one to look at."""
    return isinstance(error, InputError) or type(error).__name__ == "PeerLost"
