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

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0


def start(*arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "nervecode", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(process: subprocess.Popen[str], folder: Path, event: str) -> Path:
    """The run directory, once its log holds an event."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for log in folder.glob("*/log.jsonl"):
            if event in log.read_text():
                return log.parent
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError(f"no {event} in {PATIENCE} s")


def interrupt(process: subprocess.Popen[str], number: int, run: Path) -> str:
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert "Traceback" not in err
    assert f"interrupted; `nervecode bench {run}` goes on where the run stopped" in err
    return err


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


def test_an_interrupted_run_goes_on_to_the_same_results(
    cli: Any, config: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "runs"
    process = start("bench", "--config", config, "--outdir", folder)
    run = wait_for(process, folder, '"start", "stage": "train/seed_0"')
    interrupt(process, signal.SIGINT, run)
    assert process.returncode == 130
    assert json.loads((run / "meta.json").read_text())["status"] == "interrupted"
    assert not (run / ".lock").exists()
    assert not (run / "results.csv").exists()

    process = start("bench", run)
    wait_for(process, folder, '"start", "stage": "train/seed_1"')
    interrupt(process, signal.SIGTERM, run)
    assert process.returncode == 143
    assert json.loads((run / "meta.json").read_text())["status"] == "interrupted"
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


def test_a_run_whose_writer_was_killed_is_taken_over(
    cli: Any, run_copy: Path, finished: Path
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    meta = json.loads((run_copy / "meta.json").read_text())
    del meta["stages"]["tables"]
    (run_copy / "meta.json").write_text(json.dumps(sealed(meta | {"status": "running"})))
    lock = {"host": socket.gethostname(), "process": gone.pid}
    (run_copy / ".lock").write_text(json.dumps(lock))
    listed = json.loads(cli("runs", run_copy.parent, "--json").out)["runs"]
    assert [row["status"] for row in listed] == ["interrupted"]
    found = cli("bench", run_copy)
    assert found.status == 0, found.err
    assert f"process {gone.pid} on {socket.gethostname()} is gone; this process takes" in found.err
    assert '"takeover"' in (run_copy / "log.jsonl").read_text()
    assert not (run_copy / ".lock").exists()
    assert (run_copy / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
