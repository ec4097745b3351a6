"""Launchers: what starts the command of each cell, here or on a cluster. Nothing else is sent."""

from __future__ import annotations

import importlib
import logging
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nervecode.errors import InputError, did_you_mean, need_extra, one_line
from nervecode.lab.machine.provenance import cores

PAUSE = 0.1  # seconds between two looks at what runs
PATIENCE = 60.0  # seconds that a process has to save what it does and end
WATCHED = "--until-eof"


@dataclass(frozen=True)
class Task:
    """The command of one cell, and the file that what it says goes to."""

    id: str
    words: tuple[str, ...]
    log: Path


@dataclass(frozen=True)
class Pool:
    """How tasks are run.

    Attributes:
        folder: of the sweep.
        jobs: how many at a time.
        options: of the launcher.
    """

    folder: Path
    jobs: int
    options: Mapping[str, Any] = field(default_factory=dict)


Launcher = Callable[[Sequence[Task], Pool], Iterator[tuple[Task, int]]]
"""Tasks -> each with its exit status as it ends. Closed, it ends what it has started."""


def local(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
    """Processes on this machine, so many at a time, which share its cores.

    Each ends with the process that started it: its standard input ends then, and it listens.
    """
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(max(1, cores() // pool.jobs)))
    waiting, running = list(tasks), dict[Task, subprocess.Popen[bytes]]()
    try:
        while waiting or running:
            while waiting and len(running) < pool.jobs:
                task = waiting.pop(0)
                running[task] = _start(task, environment)
            time.sleep(PAUSE)
            for task in [task for task, process in running.items() if process.poll() is not None]:
                yield task, _close(running.pop(task))
    finally:
        _end(list(running.values()))


def slurm(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
    """One array of SLURM jobs, through submitit; its options are those of `AutoExecutor`.

    submitit keeps each command, a list of words, in a file of its own under `submitit/`, and what
    it says beside it.
    """
    executor = _slurm_executor(pool)
    command = _package("slurm").helpers.CommandFunction
    with executor.batch():
        running = {executor.submit(command(list(task.words))): task for task in tasks}
    try:
        while running:
            time.sleep(10 * PAUSE)
            for job in [job for job in running if job.done()]:
                task = replace(running.pop(job), log=Path(job.paths.stderr))
                yield task, int(job.exception() is not None)
    finally:
        for job in running:
            job.cancel()


def ray(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
    """Tasks of a Ray cluster; `address` is one that runs already, other options are `ray.remote`'s.

    All machines see the folder of the sweep, and have Nervecode installed.
    """
    engine, call = _ray_call(pool.options)
    address, cpus = pool.options.get("address"), pool.options.get("num_cpus", 1)
    size = {} if address else {"num_cpus": pool.jobs * max(1, int(cpus))}
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    engine.init(address=address, include_dashboard=None if address else False,
                log_to_driver=False, logging_level="ERROR", **size)  # fmt: skip
    try:
        running = {call.remote(list(task.words), str(task.log)): task for task in tasks}
        while running:
            done, _ = engine.wait(list(running), num_returns=1)
            for reference in done:
                task = running.pop(reference)
                try:
                    status = int(engine.get(reference))
                except engine.exceptions.RayError:
                    status = 1
                yield task, status
    finally:
        engine.shutdown()


LAUNCHERS: dict[str, Launcher] = {"local": local, "slurm": slurm, "ray": ray}
PACKAGES = {"slurm": "submitit", "ray": "ray"}  # of the extra by the launcher's name


def launcher(name: str) -> Launcher:
    """A launcher by its name.

    Raises:
        InputError: an unknown name.
    """
    if name not in LAUNCHERS:
        known = did_you_mean(name, [*LAUNCHERS, "print"])
        raise InputError(f"--launcher: unknown {name!r}; {known}")
    return LAUNCHERS[name]


def check_options(name: str, options: Mapping[str, Any]) -> None:
    """Refuse options that a launcher does not have, before anything is written.

    Raises:
        InputError: an unknown option, or a value of another kind.
        MissingExtraError: what is behind the launcher is not installed.
    """
    if name in ("local", "print"):
        _allow(options, name, ())
    elif name == "slurm":
        with TemporaryDirectory() as folder:  # which submitit writes to
            _slurm_executor(Pool(Path(folder), 1, options))
    elif name == "ray":
        _ray_call(options)


def _start(task: Task, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    task.log.parent.mkdir(exist_ok=True)
    with task.log.open("ab") as log:
        # In a session of its own: Ctrl-C is for this process, which tells the others.
        return subprocess.Popen(
            [*task.words, WATCHED], stdin=subprocess.PIPE, stdout=log, stderr=log,
            env=environment, start_new_session=True,
        )  # fmt: skip


def _close(process: subprocess.Popen[bytes]) -> int:
    if process.stdin is not None:
        process.stdin.close()
    return process.wait()


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Interrupt processes, which save what they do; those that do not end are killed."""
    for process in processes:  # SIGTERM: what runs in the background may ignore SIGINT
        with suppress(OSError):
            process.terminate()
    try:
        deadline = time.monotonic() + PATIENCE
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
            _close(process)


def _slurm_executor(pool: Pool) -> Any:
    engine = _package("slurm")
    logging.getLogger("submitit").handlers.clear()  # one of them writes to standard output
    options = dict(pool.options)
    try:
        executor = engine.AutoExecutor(
            folder=pool.folder / "submitit", cluster=options.pop("cluster", None)
        )
        executor.update_parameters(
            **{"name": "nervecode", "slurm_array_parallelism": pool.jobs, **options}
        )
    except (NameError, ValueError, TypeError, AssertionError) as error:
        raise InputError(f"--launcher-option: {one_line(error)}") from None
    return executor


def _ray_call(options: Mapping[str, Any]) -> tuple[Any, Any]:
    """Ray, and the task that runs a command."""
    engine = _package("ray")
    own = {key: value for key, value in options.items() if key != "address"}
    try:
        return engine, engine.remote(**{"num_cpus": 1, "max_retries": 0, **own})(_call)
    except (ValueError, TypeError) as error:
        raise InputError(f"--launcher-option: {one_line(error)}") from None


def _call(words: list[str], log: str) -> int:
    """What Ray runs on a worker."""
    Path(log).parent.mkdir(exist_ok=True)
    with Path(log).open("ab") as file:
        return subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        ).returncode


def _allow(options: Mapping[str, Any], name: str, allowed: Sequence[str]) -> None:
    for key in options:
        if key not in allowed:
            raise InputError(
                f"--launcher-option: unknown {key!r} of launcher {name}; "
                f"{did_you_mean(key, allowed)}"
            )


def _package(name: str) -> Any:
    """The package behind a launcher.

    Raises:
        MissingExtraError: it is not installed.
    """
    need_extra(f"--launcher {name}", PACKAGES[name], name)
    return importlib.import_module(PACKAGES[name])
