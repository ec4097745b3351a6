"""A run that is interrupted says so and goes on where it stopped."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.run.meta import sealed
from tests.lab.run.test_lock import gone
from tests.trust import processes
from tests.trust.processes import Command

PATIENCE = 60.0


def wait_for(command: Command, folder: Path, event: str) -> Path:
    """The run directory, once its log holds an event."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for log in folder.glob("*/log.jsonl"):
            if event in log.read_text():
                return log.parent
        assert command.process.exitcode is None, command.wait()
        time.sleep(0.01)
    raise AssertionError(f"no {event} in {PATIENCE} s")


def interrupt(command: Command, number: int, run: Path) -> None:
    os.kill(command.process.pid, number)
    status, err = command.wait()
    assert status == 128 + number
    assert "Traceback" not in err
    assert f"interrupted; `nervecode bench {run}` goes on where the run stopped" in err
    assert json.loads((run / "meta.json").read_text())["status"] == "interrupted"


@pytest.fixture
def config(tiny: dict[str, Any], tmp_path: Path) -> Path:
    """More epochs, so that there is a middle to be interrupted in, and less of all else."""
    tiny = tiny | {
        "train": tiny["train"] | {"epochs": 10},
        "data": {"id": "digits", "hold_out": [8, 9], "near": ["held_out"]},
        "bench": {"detectors": [], "limit_eval": 30},
    }
    path = tmp_path / "config.yaml"
    path.write_text(json.dumps(tiny))
    return path


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_after_the_work_shows_no_traceback(number: int) -> None:
    late = (
        "import atexit, os, signal, sys\nfrom nervecode.cli.main import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"atexit.register(os.kill, os.getpid(), {int(number)})\n"
        "sys.argv = ['nervecode', '--help']\nmain()\n"
    )
    result = subprocess.run([sys.executable, "-c", late], capture_output=True, text=True)
    assert result.returncode == -number
    assert "Usage" in result.stdout
    assert result.stderr == ""


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_results(
    cli: Any, config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    command = processes.start("bench", "--config", config, "--outdir", folder)
    run = wait_for(command, folder, '"start", "stage": "train/seed_0"')
    interrupt(command, signal.SIGINT, run)
    assert not (run / ".lock").exists()
    assert not (run / "results.csv").exists()

    command = processes.start("bench", run)
    wait_for(command, folder, '"start", "stage": "train/seed_1"')
    interrupt(command, signal.SIGTERM, run)
    listed = json.loads(cli("runs", folder, "--json").out)["runs"]
    assert [row["status"] for row in listed] == ["interrupted"]

    resumed = cli("bench", run)
    assert resumed.status == 0
    assert "seed 0: train was done before" in resumed.err
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert ("skip", "train/seed_0") in [(e["event"], e.get("stage")) for e in events]
    assert json.loads((run / "meta.json").read_text())["status"] == "complete"
    assert not list(run.rglob("*.tmp"))
    straight = cli("bench", "--config", config, "--outdir", tmp_path / "straight")
    assert straight.status == 0, straight.err
    (other,) = (tmp_path / "straight").iterdir()
    assert (run / "results.csv").read_bytes() == (other / "results.csv").read_bytes()


@pytest.mark.slow
def test_a_run_whose_writer_was_killed_is_taken_over(
    cli: Any, run_copy: Path, finished: Path
) -> None:
    owner = gone()
    meta = json.loads((run_copy / "meta.json").read_text())
    del meta["stages"]["tables"]
    (run_copy / "meta.json").write_text(json.dumps(sealed(meta | {"status": "running"})))
    lock = {"host": socket.gethostname(), "process": owner}
    (run_copy / ".lock").write_text(json.dumps(lock))
    listed = json.loads(cli("runs", run_copy.parent, "--json").out)["runs"]
    assert [row["status"] for row in listed] == ["interrupted"]
    found = cli("bench", run_copy)
    assert found.status == 0, found.err
    assert f"process {owner} on {socket.gethostname()} is gone; this process takes" in found.err
    assert '"takeover"' in (run_copy / "log.jsonl").read_text()
    assert not (run_copy / ".lock").exists()
    assert (run_copy / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
