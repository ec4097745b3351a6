"""Commands in several processes: `--nproc`, torchrun, srun; what becomes of a job that fails."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tests.command_line import Cli
from tests.ranks import free_port

ROOT = Path(__file__).parents[2]
FAULTS = Path(__file__).parent / "faults"
PYTHON = (sys.executable, "-m")
MINUTE = 60.0
CONFIG: dict[str, Any] = {
    "name": "pair",
    "seeds": [0],
    "device": "cpu",
    "threads": 1,
    "data": {"id": "blobs", "hold_out": [3], "near": ["held_out"], "far": ["uniform_noise"]},
    "model": {"name": "mlp", "width": 8, "depth": 2},
    "train": {"epochs": 3, "batch_size": 64, "learning_rate": 0.02},
    "signals": {"nervecode": {"recipe": "bits"}},
    "bench": {"detectors": ["energy", "knn"], "accuracy_gate": 0.0},
}


class Command:
    """A command in processes of their own; all of them are known by the folder they sign in."""

    def __init__(self, folder: Path, *words: object, **environment: str) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        path = os.pathsep.join(map(str, (FAULTS, ROOT)))
        self.process = subprocess.Popen(
            [*PYTHON, *map(str, words)],
            env={**os.environ, "PYTHONPATH": path, "FAULTS": str(folder), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def end(self) -> tuple[int, str, str]:
        """Its exit status and what it said, when no process of it is left."""
        out, err = self.process.communicate(timeout=3 * MINUTE)
        deadline = time.monotonic() + 10
        while left := self.left():
            assert time.monotonic() < deadline, f"left: {left}\n{err}"
            time.sleep(0.1)
        return self.process.returncode, out, err

    def left(self) -> list[int]:
        """Its processes that are still there."""
        return [n for n in (int(path.name) for path in self.folder.iterdir()) if is_alive(n)]


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


Start = Callable[..., Command]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Begin `nervecode ARGUMENTS`, with an environment."""
    begun: list[Command] = []

    def begin(*arguments: object, module: str = "nervecode", **environment: str) -> Command:
        folder = tmp_path / f"faults-{len(begun)}"
        begun.append(Command(folder, module, *arguments, **environment))
        return begun[-1]

    yield begin
    for command in begun:
        for process in command.left():
            os.kill(process, signal.SIGKILL)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "pair.yaml"
    path.write_text(json.dumps(CONFIG))
    return path


@pytest.fixture(scope="module")
def trained(cli: Cli, config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that one process trained."""
    folder = tmp_path_factory.mktemp("trained")
    found = cli("train", "--config", config, "--outdir", folder)
    assert found.status == 0, found.err
    (run,) = folder.iterdir()
    return run


@pytest.fixture(scope="module")
def whole(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that two processes trained, and nothing happened."""
    folder = tmp_path_factory.mktemp("whole")
    command = Command(
        folder / "faults", "nervecode", "train", "--config", config,
        "--outdir", folder / "runs", "--nproc", 2,
    )  # fmt: skip
    status, _, err = command.end()
    assert status == 0, err
    (run,) = (folder / "runs").iterdir()
    return run


def wait_for_epochs(folder: Path, command: Command) -> Path:
    """The run in a folder, once its training is under way."""
    deadline = time.monotonic() + MINUTE
    while time.monotonic() < deadline and command.process.poll() is None:
        for path in folder.glob("*/resume/*.safetensors"):
            return path.parents[1]
        time.sleep(0.05)
    raise AssertionError(command.end())


def status_of(run: Path) -> str:
    return str(json.loads((run / "meta.json").read_text())["status"])


def rows(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "results.csv").read_text().splitlines()))


def assert_alike(run: Path, other: Path) -> None:
    """The same tables, up to rounding."""
    for one, two in zip(rows(run), rows(other), strict=True):
        assert one.keys() == two.keys()
        for key, text in one.items():
            try:
                assert float(text) == pytest.approx(float(two[key]), abs=1e-6), key
            except ValueError:
                assert text == two[key]


def assert_same_training(run: Path, other: Path) -> None:
    """The same bits."""
    one, two = (load_file(root / "checkpoints/seed_0.safetensors") for root in (run, other))
    assert one.keys() == two.keys()
    assert all(bool((one[name] == two[name]).all()) for name in one)


def assert_whole(run: Path) -> None:
    """No lock, and no half of a file."""
    assert list(run.rglob(".*")) == []


# The same results


@pytest.mark.slow
def test_a_bench_of_two_processes_is_that_of_one(
    start: Start, cli: Cli, trained: Path, tmp_path: Path
) -> None:
    one, two = (shutil.copytree(trained, tmp_path / "runs" / name) for name in ("one", "two"))
    alone = cli("bench", one)
    status, out, err = start("bench", two, "--nproc", 2).end()
    assert (status, alone.status) == (0, 0), err
    assert_alike(one, two)
    assert out == alone.out  # shown once
    assert err.count("seed 0: train was done before") == 1
    assert status_of(two) == "complete"
    assert_whole(two)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["torchrun", "srun", "machines"])
def test_however_ranks_are_started_they_are_one_job(
    how: str, start: Start, config: Path, whole: Path, tmp_path: Path
) -> None:
    words = ("train", "--config", config, "--outdir", tmp_path / "runs")
    port = str(free_port())
    if how == "torchrun":
        launcher = ("--standalone", "--nproc-per-node", 2, "-m", "nervecode")
        commands = [start(*launcher, *words, module="torch.distributed.run")]
    elif how == "srun":
        place = {"SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NODELIST": "localhost",
                 "SLURM_JOB_ID": port}  # fmt: skip
        commands = [start(*words, **place, SLURM_PROCID=str(r)) for r in range(2)]
    else:
        machines = ("--nproc", 1, "--nnodes", 2, "--rdzv", f"localhost:{port}")
        commands = [start(*words, *machines) for _ in range(2)]
    found = [command.end() for command in commands]
    assert [status for status, _, _ in found] == [0] * len(commands), found
    (run,) = (tmp_path / "runs").iterdir()
    assert_same_training(run, whole)
    assert "".join(out for _, out, _ in found).split() == [
        str(run / "checkpoints/seed_0.safetensors")
    ]
    assert_whole(run)


# A job that fails


def fail(start: Start, config: Path, folder: Path, fault: str, rank: int) -> tuple[Path, str]:
    """The run of a job in which something happens to a rank, and what the command says of it."""
    words = ("train", "--config", config, "--outdir", folder, "--nproc", 2)
    began = time.monotonic()
    status, out, err = start(*words, FAULT=fault, FAULT_RANK=str(rank)).end()
    assert time.monotonic() - began < MINUTE
    assert (status, out) == (1, ""), err
    assert "Traceback" not in err
    (run,) = folder.iterdir()
    return run, err.splitlines()[-1]


@pytest.mark.parametrize(
    ("exit_code", "told"),
    [
        (-signal.SIGKILL, "was ended by SIGKILL"),
        (1, "failed with exit status 1: it left no message"),
    ],
)
def test_the_answer_names_the_rank_that_the_launcher_lost(
    exit_code: int, told: str, cli: Cli, config: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    failure = ProcessFailure(1, 12, exit_code, str(tmp_path / "none"))

    def lose(*arguments: object) -> None:
        raise ChildFailedError("python", {1: failure})

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", lambda *_: lose)
    found = cli("train", "--config", config, "--outdir", tmp_path / "runs", "--nproc", 2)
    assert (found.status, found.out) == (1, "")
    who = f"rank 1 (process 12 on {socket.gethostname()})"
    assert found.err.splitlines()[-1] == f"Error: {who} {told}"


@pytest.mark.slow
def test_a_rank_that_is_killed_ends_the_job(start: Start, config: Path, tmp_path: Path) -> None:
    run, said = fail(start, config, tmp_path / "runs", "killed", 1)
    assert said.startswith("Error: rank 1 (process ")
    assert said.endswith(") was ended by SIGKILL")
    assert status_of(run) == "failed"
    assert_whole(run)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("fault", "rank", "told"),
    [
        ("raises", 1, "failed with exit status 1: ValueError: a bad day"),
        ("killed", 0, "was ended by SIGKILL"),
        ("stopped", 0, "shows no sign of life: it was killed or stopped"),
        ("hangs", 1, "did not come to step"),
    ],
)
def test_a_rank_that_is_lost_is_named_and_the_job_goes_on_later(
    fault: str, rank: int, told: str, start: Start, config: Path, whole: Path, tmp_path: Path
) -> None:
    run, said = fail(start, config, tmp_path / "runs", fault, rank)
    assert said.startswith(f"Error: rank {rank} (process ")
    assert told in said
    status, _, err = start("train", run, "--nproc", 2).end()
    assert status == 0, err
    assert "seed 0: goes on after epoch 1 of 3" in err
    assert_same_training(run, whole)
    assert_whole(run)


@pytest.mark.slow
def test_ranks_end_with_the_process_that_started_them(
    start: Start, config: Path, tmp_path: Path
) -> None:
    words = ("train", "--config", config, "--outdir", tmp_path / "runs", "--nproc", 2)
    command = start(*words, FAULT="hangs", FAULT_RANK="0 1", NERVECODE_TIMEOUT="2")
    run = wait_for_epochs(tmp_path / "runs", command)
    command.process.kill()
    command.end()
    assert_whole(run)
    assert status_of(run) == "interrupted"


# Interrupts, and going on with another number of processes


@pytest.mark.slow
def test_an_interrupted_job_names_the_command_that_goes_on(
    start: Start, cli: Cli, config: Path, tmp_path: Path
) -> None:
    long = ("--config", config, "-o", "train.epochs=200", "--outdir", tmp_path / "runs")
    command = start("bench", *long, "--nproc", 2, FAULT="none", FAULT_RANK="")
    run = wait_for_epochs(tmp_path / "runs", command)
    command.process.send_signal(signal.SIGINT)
    status, out, err = command.end()
    assert (status, out) == (130, "")
    assert err.count(f"interrupted; `nervecode bench {run} --nproc 2` goes on where the run") == 1
    assert err.count("Error") == 1
    assert status_of(run) == "interrupted"
    assert_whole(run)

    refused = cli("train", run)
    assert refused.status == 2
    assert "was begun by 2 processes, found: 1 process" in refused.err
    allowed = cli("train", run, "--allow-world-size-change")
    assert allowed.status == 0, allowed.err
    assert "seed 0: goes on after epoch" in allowed.err


# Bad input


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--nproc", 0), "--nproc: found 0, allowed: at least 1"),
        (("--nproc", 2, "--nnodes", 0), "--nnodes: found 0, allowed: at least 1"),
        (("--nnodes", 2), "--nnodes: found 2 without --rdzv HOST:PORT"),
        (("--nproc", 2, "--rdzv", "here"), "--rdzv: found 'here', allowed: HOST:PORT"),
        (("--rdzv", "here:1"), "--rdzv: is for several machines; give --nnodes too"),
    ],
)
def test_numbers_that_make_no_job(
    cli: Cli, tmp_path: Path, options: tuple[object, ...], words: str
) -> None:
    found = cli("train", "--preset", "digits", "--outdir", tmp_path / "runs", *options)
    assert (found.status, words in found.err) == (2, True), found.err
    assert not (tmp_path / "runs").exists()


def test_tasks_of_srun_start_no_processes_of_their_own(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    found = cli("train", "--preset", "digits", "--nproc", 4)
    assert found.status == 2
    assert "--nproc: found in 4 tasks of srun, which work on one run without it" in found.err
    assert "--nnodes 4 --rdzv HOST:PORT" in found.err


@pytest.mark.slow
def test_a_batch_that_cannot_be_shared_is_told_once(
    start: Start, config: Path, tmp_path: Path
) -> None:
    words = ("train", "--config", config, "-o", "train.batch_size=63")
    status, _, err = start(*words, "--nproc", 2, "--outdir", tmp_path / "runs").end()
    assert status == 2
    assert err.splitlines() == [
        "Error: train.batch_size: found 63, which 2 processes cannot share evenly; "
        "allowed nearby: 62 or 64 (it is the size of the whole job's batch)"
    ]
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_machines_that_never_come_are_not_waited_for_forever(start: Start, config: Path) -> None:
    where = f"localhost:{free_port()}"
    words = ("train", "--config", config, "--nnodes", 2, "--rdzv", where)
    began = time.monotonic()
    status, _, err = start(*words, NERVECODE_RENDEZVOUS_TIMEOUT="2").end()
    assert time.monotonic() - began < MINUTE
    assert status == 1
    assert f"rendezvous: 2 machines did not meet at {where} within 2 s" in err
    assert "NERVECODE_RENDEZVOUS_TIMEOUT sets how long" in err
