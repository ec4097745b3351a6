"""Launch: the same command line in several processes, through PyTorch's elastic launcher."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nervecode.errors import InputError, NervecodeError, first_line
from nervecode.lab.machine.provenance import cores
from nervecode.lab.ranks.place import LAUNCHED, RENDEZVOUS_TIMEOUT, seconds

if TYPE_CHECKING:
    from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

SAVING = "120"  # seconds that ranks have after Ctrl-C to finish their step and save
ENDED = (-signal.SIGTERM, 128 + signal.SIGTERM, 128 + signal.SIGINT)


class RankFailed(NervecodeError):
    """A rank that ended before its work was done.

    Attributes:
        exit_status: that of the rank, where it says what is wrong: 2, 3 or 4; else 1.
    """

    def __init__(self, message: str, exit_status: int) -> None:
        super().__init__(message)
        self.exit_status = exit_status


def launch(arguments: Sequence[str], *, nproc: int, nnodes: int, rdzv: str | None) -> int:
    """Run `nervecode ARGUMENTS` in several processes until all have ended.

    Args:
        arguments: of the command line.
        nproc: processes on this machine.
        nnodes: machines, on each of which the same command is started.
        rdzv: HOST:PORT of one of them, where they meet; None for one machine.

    Returns:
        0, or 128 + the signal that ended it.

    Raises:
        InputError: numbers below 1, or several machines without a place to meet.
        RankFailed: names the first rank that failed, and why.
        NervecodeError: the other machines do not come.
    """
    _check(nproc, nnodes, rdzv)
    with _environment(nproc), TemporaryDirectory() as folder:
        from torch.distributed.elastic.multiprocessing import SignalException
        from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
        from torch.distributed.elastic.rendezvous import RendezvousError
        from torch.distributed.launcher.api import elastic_launch

        config = _config(nproc, nnodes, rdzv, folder)
        try:
            elastic_launch(config, sys.executable)("-m", "nervecode", *arguments)
        except ChildFailedError as error:
            return _answer(error.failures)
        except SignalException as stop:
            return 128 + int(stop.sigval)
        except RendezvousError as error:
            raise NervecodeError(
                f"rendezvous: {nnodes} machines did not meet at {rdzv} within "
                f"{seconds(RENDEZVOUS_TIMEOUT):g} s ({RENDEZVOUS_TIMEOUT} sets how long): "
                f"{first_line(error)}"
            ) from None
    return 0


def _check(nproc: int, nnodes: int, rdzv: str | None) -> None:
    for name, count in (("--nproc", nproc), ("--nnodes", nnodes)):
        if count < 1:
            raise InputError(f"{name}: found {count}, allowed: at least 1")
    if rdzv is None and nnodes > 1:
        raise InputError(f"--nnodes: found {nnodes} without --rdzv HOST:PORT, where they meet")
    if rdzv is not None and not rdzv.rpartition(":")[2].isdigit():
        raise InputError(f"--rdzv: found {rdzv!r}, allowed: HOST:PORT, such as node1:29400")


@contextmanager
def _environment(nproc: int) -> Iterator[None]:
    """Within it, what child processes inherit; and this process, a nurse, says nothing itself."""
    before = dict(os.environ)
    os.environ[LAUNCHED] = "1"
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores() // nproc)))
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", SAVING)
    logging.disable()
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
        os.environ.clear()
        os.environ.update(before)


def _config(nproc: int, nnodes: int, rdzv: str | None, folder: str) -> Any:
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.launcher.api import LaunchConfig

    patience = int(max(1, seconds(RENDEZVOUS_TIMEOUT)))
    return LaunchConfig(
        min_nodes=nnodes,
        max_nodes=nnodes,
        nproc_per_node=nproc,
        # Machines that meet at one address belong to one run; by itself, each run is its own.
        run_id="nervecode" if rdzv else uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=rdzv or "localhost:0",
        rdzv_configs={n: patience for n in ("timeout", "join_timeout", "read_timeout")},
        local_addr=None if rdzv else "localhost",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(log_dir=folder),
    )


def _answer(failures: Mapping[int, ProcessFailure]) -> int:
    """The exit status of a job that was ended.

    Raises:
        RankFailed: it was not ended, but failed.
    """
    rank = min(failures, key=lambda r: (_remoteness(failures[r]), failures[r].timestamp, r))
    failure = failures[rank]
    if _remoteness(failure) == 2:
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    kind, _, text = _said(failure).partition(": ")
    if kind == "PeerLost":
        raise RankFailed(text, 1)
    if failure.exitcode in (2, 3, 4):
        raise RankFailed(text, failure.exitcode)
    who = f"rank {rank} (process {failure.pid} on {socket.gethostname()})"
    if failure.exitcode < 0:
        raise RankFailed(f"{who} was ended by {failure.signal_name()}", 1)
    said = _said(failure) or "it left no message"
    raise RankFailed(f"{who} failed with exit status {failure.exitcode}: {said}", 1)


def _remoteness(failure: ProcessFailure) -> int:
    """0: a failure of its own; 1: one that names another rank; 2: what the launcher did."""
    if failure.exitcode in ENDED:
        return 2
    return 1 if _said(failure).startswith("PeerLost: ") else 0


def _said(failure: ProcessFailure) -> str:
    """`Class: message` of the exception that ended a rank, or nothing."""
    message = failure.error_file_data.get("message")
    return str(message.get("message", "")) if isinstance(message, dict) else ""
