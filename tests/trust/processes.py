"""The command line in processes of their own, which start quickly and may be killed."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess

# The server loads torch and runs nothing; every process is forked from it, with it loaded.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.trust.loaded"])


@dataclass(frozen=True)
class Command:
    """A command line that runs in a process of its own."""

    process: ForkServerProcess
    messages: Connection

    def wait(self) -> tuple[int, str]:
        """Its exit status (negative after a signal), and what it said on standard error."""
        self.process.join(120)
        assert self.process.exitcode is not None
        with os.fdopen(os.dup(self.messages.fileno()), encoding="utf-8") as file:
            return self.process.exitcode, file.read()


def start(*arguments: object, full_at: str | None = None) -> Command:
    """Begin `nervecode ARGUMENTS`.

    Args:
        arguments: of the command line.
        full_at: the stage in which the disk fills up: no file may grow beyond 99 bytes from there.
    """
    reader, writer = SERVER.Pipe(duplex=False)
    texts = [str(argument) for argument in arguments]
    process = SERVER.Process(target=_main, args=(writer, texts, full_at))
    process.start()
    writer.close()
    return Command(process, reader)


def _main(messages: Connection, arguments: Sequence[str], full_at: str | None) -> None:
    from nervecode.cli import main
    from nervecode.lab.run.directory import RunDir
    from nervecode.viz import stages
    from tests.command_line import DOTS

    signal.signal(signal.SIGINT, signal.default_int_handler)  # which background jobs ignore
    os.dup2(messages.fileno(), 2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    messages.close()
    whole = RunDir.stage

    def stage(self: RunDir, name: str, *rest: object) -> bool:
        if name == full_at:
            resource.setrlimit(resource.RLIMIT_FSIZE, (99, resource.RLIM_INFINITY))
        return whole(self, name, *rest)  # type: ignore[arg-type]

    RunDir.stage = stage  # type: ignore[method-assign]
    stages.KINDS = DOTS
    status = main.run(list(arguments))
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
