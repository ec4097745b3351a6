"""`nervecode sweep` and `nervecode run-cell`."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.sweep.launchers import LAUNCHERS, Pool, Task, local
from tests.command_line import Cli, Result, dotted, invoke

GRID = ("--grid", "train.epochs=1,2", "--seeds", "0")


@pytest.fixture(scope="module")
def config(tiny: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "small.yaml"
    tiny["bench"] |= {"detectors": ["energy"], "limit_eval": 20, "accuracy_gate": 0.0}
    path.write_text(json.dumps({**tiny, "signals": {"nervecode": {"recipe": "bits"}}}))
    return path


def here(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
    """A launcher that runs the commands in this process."""
    for task in tasks:
        assert task.words[:3] == (sys.executable, "-m", "nervecode")
        yield task, invoke(*task.words[3:]).status


def mostly_here(tasks: Sequence[Task], pool: Pool) -> Iterator[tuple[Task, int]]:
    """The first in a process of its own, as they all are, and the rest in this one."""
    yield from local(tasks[:1], pool)
    yield from here(tasks[1:], pool)


@pytest.fixture(scope="module")
def swept(cli: Cli, config: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    folder = tmp_path_factory.mktemp("sweep") / "two"
    with pytest.MonkeyPatch.context() as patch, dotted():
        patch.setitem(LAUNCHERS, "local", here)
        return folder, cli("sweep", config, *GRID, "--outdir", folder, "--jobs", 2)


def table(folder: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "sweep.csv").read_text().splitlines()))


def events(folder: Path, event: str) -> dict[str, list[str]]:
    """Run -> the stages of which its log tells an event, as often as it does."""
    found = {}
    for path in folder.glob("tiny-*/log.jsonl"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        found[path.parent.name] = [line["stage"] for line in lines if line["event"] == event]
    return found


def stages(folder: Path, event: str = "done") -> dict[str, int]:
    """Run -> how often a stage was done in it."""
    return {run: len(names) for run, names in events(folder, event).items()}


def test_every_cell_is_run_and_shown(swept: tuple[Path, Result]) -> None:
    folder, found = swept
    assert found.status == 0, found.err
    rows = table(folder)
    assert [(row["train.epochs"], row["seed"], row["status"]) for row in rows] == [
        ("1", "0", "done"), ("2", "0", "done")
    ]  # fmt: skip
    for row in rows:
        saved = json.loads((folder / f"tiny-{row['cell']}" / "results.json").read_text())
        (near,) = [
            one["auroc_mean"]
            for one in saved["summary"]
            if (one["method"], one["group"]) == ("nervecode", "near")
        ]
        assert float(row["near"]) == near
        assert f"{100 * near:.2f}" in found.out


def test_a_sweep_that_is_done_does_nothing(
    cli: Cli, swept: tuple[Path, Result], tree: Callable[[Path], dict[str, str]]
) -> None:
    folder, first = swept
    before = tree(folder)
    again = cli("sweep", "--outdir", folder)
    assert (again.status, again.out) == (0, first.out)
    assert "2 cells" in again.err
    assert "2 of them not due" in again.err
    assert tree(folder) == before


def test_print_names_what_is_due_alone(
    cli: Cli, swept: tuple[Path, Result], tmp_path: Path
) -> None:
    folder, _ = swept
    assert cli("sweep", "--outdir", folder, "--launcher", "print").out == ""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    cell = table(copy)[1]["cell"]
    shutil.rmtree(copy / f"tiny-{cell}")
    found = cli("sweep", "--outdir", copy, "--launcher", "print").out
    assert found == f"nervecode run-cell {copy} {cell}\n"


def test_a_damaged_cell_is_repaired(cli: Cli, swept: tuple[Path, Result], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(swept[0], folder)
    cell = table(folder)[0]["cell"]
    scores = next((folder / f"tiny-{cell}" / "scores").rglob("*.npz"))
    whole = scores.read_bytes()
    scores.write_bytes(whole[:-1])
    broken = cli("sweep", "--outdir", folder, "--launcher", "print")
    assert cell in broken.out
    assert cli("run-cell", folder, cell[:8]).status == 0
    assert scores.read_bytes() == whole
    assert cli("sweep", "--outdir", folder, "--launcher", "print").out == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "differing"),
    [(("-o", "train.epochs=3"), "train.epochs"), (("--seeds", "5"), "seeds"), ((), "train.epochs")],
)
def test_a_run_of_other_settings_is_no_cell(
    cli: Cli, swept: tuple[Path, Result], tmp_path: Path, change: tuple[str, ...], differing: str
) -> None:
    """As after `bench CELL` with other settings, or where the run of another cell lies there."""
    folder = tmp_path / "copy"
    shutil.copytree(swept[0], folder)
    first, second = (row["cell"] for row in table(folder))
    root = folder / f"tiny-{first}"
    if change:
        assert cli("bench", root, *change).status == 0
    else:
        shutil.rmtree(root)
        shutil.copytree(folder / f"tiny-{second}", root)
    before = (root / "meta.json").read_bytes()
    assert cli("sweep", "--outdir", folder, "--launcher", "print").out.count(first) == 1
    refused = cli("run-cell", folder, first)
    assert refused.status == 2
    assert f"{root}: found a run of other settings ({differing}), allowed: of cell" in refused.err
    assert (root / "meta.json").read_bytes() == before
    swept_again = cli("sweep", "--outdir", folder, "--launcher", "local", "--jobs", 1)
    assert swept_again.status == 1
    rows = {row["cell"]: row for row in table(folder)}
    assert rows[first]["status"] == "damaged" and rows[second]["status"] == "done"
    assert rows[first]["reason"] == f"its run is of other settings ({differing}); move it away"
    assert not rows[first]["accuracy"]


@pytest.mark.slow
def test_a_run_of_more_seeds_is_of_its_cell(
    cli: Cli, swept: tuple[Path, Result], tmp_path: Path
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(swept[0], folder)
    before = table(folder)
    assert cli("bench", folder / f"tiny-{before[0]['cell']}", "--seeds", "0,1").status == 0
    assert cli("sweep", "--outdir", folder).status == 0
    assert table(folder) == before


@pytest.mark.slow
def test_a_cell_does_without_pictures(cli: Cli, swept: tuple[Path, Result], tmp_path: Path) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(swept[0], folder)
    cell = table(folder)[0]["cell"]
    root = folder / f"tiny-{cell}"
    drawn, rows = sorted(root.glob("plots/*")), (root / "results.csv").read_bytes()
    shutil.rmtree(root)
    found = cli("run-cell", folder, cell, "--no-plots")
    assert found.status == 0
    assert "Report:" not in found.err + found.out
    assert (root / "results.csv").read_bytes() == rows
    assert not (root / "plots").exists() and not (root / "report.html").exists()
    assert cli("verify", root).status == 0
    # They can be had later.
    assert cli("report", root).status == 0
    assert sorted(root.glob("plots/*")) == drawn


@pytest.mark.slow
def test_a_failure_is_told_and_stops_no_other(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAUNCHERS, "local", mostly_here)
    grid = ("--grid", "bench.accuracy_gate=1.0,0.0", "-o", "train.epochs=1", "--seeds", "0")
    found = cli("sweep", config, *grid, "--outdir", tmp_path / "s")
    assert found.status == 1
    assert "1 of 2 cells are not done: 1 gate failed" in found.err
    assert [row["status"] for row in table(tmp_path / "s")] == ["gate failed", "done"]
    cell = table(tmp_path / "s")[0]["cell"]
    # What did not reach its gate is not tried again, but where that is asked for.
    due = ("sweep", "--outdir", tmp_path / "s", "--launcher", "print")
    assert cli(*due).out == ""
    assert cell in cli(*due, "--only-failed").out


@pytest.mark.slow
def test_what_cannot_begin_has_failed(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAUNCHERS, "local", mostly_here)
    few = ("-o", "data.calibration_fraction=0.0005", "--seeds", "0", "--outdir", tmp_path / "s")
    assert cli("sweep", config, *few).status == 1
    (row,) = table(tmp_path / "s")
    assert row["status"] == "failed"
    assert "the calibration split of 'digits' holds" in row["reason"]


def test_another_sweep_in_the_folder_is_refused(
    cli: Cli, config: Path, swept: tuple[Path, Result], tree: Callable[[Path], dict[str, str]]
) -> None:
    before = tree(swept[0])
    found = cli("sweep", config, "--seeds", "7", "--outdir", swept[0])
    assert found.status == 2
    assert "holds another sweep" in found.err
    assert "only here: tiny seed 7" in found.err
    assert tree(swept[0]) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["digist"], "did you mean 'digits'"),
        (["digits", "--grid", "train.epoch=1,2"], "did you mean 'epochs'"),
        (["digits", "--grid", "train.epochs=1,x"], "train.epochs: found 'x'"),
        (["wine_1", "--grid", "data.hold_out=[2],[7]"], "data.hold_out: wine has no class 7"),
        (["digits", "--launcher", "loca"], "did you mean 'local'"),
        (["digits", "--launcher-option", "x"], "allowed: key=value"),
        (["none.yaml"], "none.yaml: no such file"),
        ([], "no such file"),
        (["--seeds", "1"], "without a config"),
    ],
)
def test_bad_input_is_told_before_anything_is_written(
    cli: Cli, tmp_path: Path, arguments: list[str], said: str
) -> None:
    found = cli("sweep", *arguments, "--outdir", tmp_path / "s")
    assert found.status == 2
    assert said in found.err
    assert not (tmp_path / "s").exists()


def test_absent_data_are_told_before_any_cell_runs(
    cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NERVECODE_DATA", str(tmp_path / "none"))
    grid = ("--grid", "data.far=[kmnist],[uniform_noise],[mnist]", "--outdir", tmp_path / "x")
    found = cli("sweep", config, *grid)
    assert found.status == 2
    lines = found.err.splitlines()
    assert len(lines) == 2
    for name, line in zip(("kmnist", "mnist"), lines, strict=True):
        assert f"data: {name} is absent" in line and f"nervecode data fetch {name}" in line
    assert not (tmp_path / "x").exists()
    assert cli("sweep", config, *grid, "--launcher", "print").status == 0  # they may be elsewhere


@pytest.mark.parametrize(("launcher", "package"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_extra_is_told_before_anything_is_written(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launcher: str, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    found = cli("sweep", "digits", "--launcher", launcher, "--outdir", tmp_path / "s")
    assert found.status == 2
    assert f"needs {package}, which is not installed; pip install -e '.[{launcher}]'" in found.err
    assert not (tmp_path / "s").exists()


@pytest.mark.slow
def test_a_sweep_whose_process_is_killed_twice_ends_as_one_that_was_not(
    config: Path, tmp_path: Path
) -> None:
    def start(name: str) -> subprocess.Popen[bytes]:
        grid = ("--grid", "model.width=4,8", "--grid", "train.epochs=1,2", "--seeds", "0,1,2,3,4,5")
        words = [sys.executable, "-m", "nervecode", "sweep", str(config), *grid]
        return subprocess.Popen([*words, "--jobs", "2", "--outdir", str(tmp_path / name)])

    whole = start("whole")
    for count in (3, 12):  # killed once so many cells have been begun
        process = start("killed")
        wait_for_cells(tmp_path / "killed", count)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert start("killed").wait() == 0
    assert whole.wait() == 0
    assert (tmp_path / "killed/sweep.csv").read_bytes() == (
        tmp_path / "whole/sweep.csv"
    ).read_bytes()
    # No stage was done twice. One that was killed between its end and its line in the log has none.
    whole_runs, killed = events(tmp_path / "whole", "done"), events(tmp_path / "killed", "done")
    assert len(whole_runs) == 24
    skipped = events(tmp_path / "killed", "skip")
    for name, done in whole_runs.items():
        assert len(set(killed[name])) == len(killed[name])
        assert {*killed[name], *skipped[name]} == set(done)


def wait_for_cells(folder: Path, count: int) -> None:
    deadline = time.monotonic() + 900  # against one that hangs alone: a slow machine takes minutes
    while len(list(folder.glob("tiny-*/checkpoints/*.safetensors"))) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)
