"""kill -9 at any moment, two writers, a full disk: nothing lost, nothing half-written."""

from __future__ import annotations

import json
import random
import shutil
import signal
import time
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.records import forget_damaged_stages
from tests.trust import processes

STAGES = ("train", "calibrate", "score", "tables", "plots", "report")


def read_everything(root: Path) -> None:
    """What a reader may do at any moment: whatever is there under its own name is whole."""
    for path in root.rglob("*.json"):
        json.loads(path.read_text())
    for path in root.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as file:
            assert all(file[name].size for name in file.files)
    for path in root.rglob("*.safetensors"):
        if not path.name.startswith("."):
            with safe_open(str(path), framework="np") as file:
                assert all(file.get_tensor(name) is not None for name in file.keys())  # noqa: SIM118
    for path in root.rglob("*.csv"):
        assert path.read_text().endswith("\n")


def read_until(root: Path, process: ForkServerProcess, seconds: float) -> None:
    """Read all of a run again and again while it is written, as long as its writer lives."""
    deadline = time.monotonic() + seconds
    while process.exitcode is None and time.monotonic() < deadline:
        with suppress(FileNotFoundError):  # tidied away between its name and its bytes
            read_everything(root)
        assert RunDir(root).status in ("running", "interrupted", "complete")
        time.sleep(0.002)


def same_results(root: Path, other: Path) -> None:
    """The rows, codes, scores and layerwise arrays of two runs, byte for byte."""
    for pattern in ("results.csv", "calibration/*", "layerwise/*/*", "scores/*/*", "checkpoints/*"):
        names = {path.relative_to(other) for path in other.glob(pattern)}
        assert names
        assert names == {path.relative_to(root) for path in root.glob(pattern)}
        for name in names:
            assert (root / name).read_bytes() == (other / name).read_bytes(), name


def begin(folder: Path, copy_of: Path) -> Path:
    """A run directory in which nothing has been done yet."""
    root = folder / copy_of.name
    run = RunDir.create(RunDir(copy_of).config, folder, command="x")
    return run.root.rename(root)


def kill_until_done(root: Path, moments: list[float]) -> int:
    """Resume the run, killing it after so many seconds each time; returns how often it was met."""
    killed = 0
    for moment in moments:
        command = processes.start("bench", root)  # held, since it holds the pipe of messages
        process = command.process
        read_until(root, process, moment)
        if process.exitcode is None:
            process.kill()
            killed += 1
        process.join()
        assert process.exitcode in (0, -signal.SIGKILL), command.wait()
        read_everything(root)
        assert RunDir(root).status in ("interrupted", "complete")
        if process.exitcode == 0:
            (root / "report.html").unlink()  # there is always something left to do
            forget_damaged_stages(RunDir(root))
    return killed


def check_kills(times: int, finished: Path, tmp_path: Path) -> None:
    root = begin(tmp_path, finished)
    began = time.monotonic()
    command = processes.start("bench", root)
    read_until(root, command.process, 120)
    status, err = command.wait()
    assert status == 0, err
    whole = time.monotonic() - began
    generator = random.Random(0)
    killed = 0
    while killed < times:  # a run of its own for every ten, over the whole of its life
        shutil.rmtree(root)
        root = begin(tmp_path, finished)
        moments = [generator.uniform(0, whole / 4) for _ in range(min(10, times - killed))]
        killed += kill_until_done(root, moments)
        status, err = processes.start("bench", root).wait()
        assert status == 0, err
        assert not list(root.rglob(".*"))
        same_results(root, finished)
        assert RunDir(root).status == "complete"


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_results(finished: Path, tmp_path: Path) -> None:
    check_kills(3, finished, tmp_path)


@pytest.mark.slow
def test_fifty_kills(finished: Path, tmp_path: Path) -> None:
    check_kills(50, finished, tmp_path)


@pytest.mark.slow
def test_twenty_kills_of_a_preset(cli: Any, tmp_path: Path) -> None:
    status, _, err = cli(
        "bench", "--preset", "toy", "--seeds", 0, "--outdir", tmp_path / "straight"
    )
    assert status == 0, err
    (straight,) = (tmp_path / "straight").iterdir()
    check_kills(20, straight, tmp_path)


# One writer


def check_two_writers(copy: Path) -> None:
    (copy / "report.html").unlink()
    forget_damaged_stages(RunDir(copy))
    before = len((copy / "log.jsonl").read_text().splitlines())
    both = [processes.start("bench", copy) for _ in range(2)]
    ends = [one.wait() for one in both]
    codes, said = sorted(code for code, _ in ends), [text for _, text in ends]
    lines = [json.loads(one) for one in (copy / "log.jsonl").read_text().splitlines()[before:]]
    done = [line for line in lines if line["event"] == "done"]
    assert [line["stage"] for line in done] == ["report"]
    assert codes in ([0, 1], [0, 0])
    if codes == [0, 1]:
        (refused,) = [text for text in said if "is writing to it" in text]
        assert "Traceback" not in refused
    else:  # one after the other: the second found nothing to do
        assert [line["stage"] for line in lines if line["event"] == "skip"].count("report") == 1
    assert RunDir(copy).status == "complete"
    assert not (copy / ".lock").exists()


@pytest.mark.slow
def test_of_two_processes_one_writes(copy: Path) -> None:
    for _ in range(2):
        check_two_writers(copy)


@pytest.mark.slow
def test_of_two_processes_one_writes_twenty_times(copy: Path) -> None:
    for _ in range(20):
        check_two_writers(copy)


def test_a_second_process_says_who_writes_and_touches_nothing(
    copy: Path, cli: Any, tree: Any
) -> None:
    owner = RunDir(copy)
    owner.lock.take()
    before = tree(copy)
    for command in (("bench", copy), ("calibrate", copy), ("plot", copy)):
        status, _, err = cli(*command)
        assert status == 1
        assert f"{owner.lock.owner()} is writing to it" in err
    assert cli("runs", copy.parent)[0] == 0
    assert tree(copy) == before
    owner.lock.release()


# A full disk


@pytest.mark.slow
def test_a_disk_that_fills_up_is_told_and_leaves_what_was_there(
    finished: Path, tmp_path: Path
) -> None:
    """In each stage in turn; the next attempt has room for that stage, and none for the next."""
    root = begin(tmp_path, finished)
    for stage in STAGES:
        before = RunDir(root).meta["stages"]
        status, err = processes.start("bench", root, full_at=stage).wait()
        assert status == 1, err
        assert "cannot be written" in err
        assert "Traceback" not in err
        assert "unexpected" not in err
        found = RunDir(root)
        assert found.meta["stages"].items() >= before.items()
        assert stage not in {key.partition("/")[0] for key in found.meta["stages"]}
        for name in found.meta["files"]:
            found.verified(root / name)
        # The disk was too full even to say that it failed; once there are rows, it is complete.
        assert found.status == ("complete" if stage in ("plots", "report") else "interrupted")
        assert not list(root.rglob(".*"))
    status, err = processes.start("bench", root).wait()
    assert status == 0, err
    same_results(root, finished)
