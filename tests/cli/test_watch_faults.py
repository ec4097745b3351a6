"""`nervecode watch`, and a stream's picture, where their input or output is not as it should be."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nervecode.errors import InputError
from nervecode.lab.run.directory import RunDir
from nervecode.lab.watch.calibration import CalibrationSet
from nervecode.lab.watch.stored import StoredCalibration
from tests.cli.test_watch import ROOT, N, events, rows, scored, text


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(text(rows()))
    return path


@pytest.mark.slow
def test_an_alarm_that_nobody_reads_is_told_again(changed: Path, tmp_path: Path) -> None:
    """Standard output is full, or its reader has gone: with --fail an alarm is an alarm."""
    state = tmp_path / "state.json"
    command = [sys.executable, "-m", "nervecode", "watch", str(changed), "--calibration", str(N)]
    command += ["--json", "--restart", "--state", str(state)]
    run: dict[str, Any] = {"stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    for options, status in (([], 1), (["--fail"], 5)):
        with open("/dev/full", "w") as full:
            done = subprocess.run([*command, *options], stdout=full, **run)
        assert done.returncode == status, done.stderr
        assert "standard output: cannot be written (No space left on device)" in done.stderr
        assert "unexpected" not in done.stderr and not state.exists()
    with subprocess.Popen([*command, "--fail"], stdout=subprocess.PIPE, **run) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(30) == 5
    told = subprocess.run(command, stdout=subprocess.PIPE, check=True, **run)
    *alarms, end = events(told.stdout)
    assert alarms and end["inputs"] == 300 and end["alarms"] == len(alarms)


def test_a_file_without_flags_has_no_number_of_them(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text(text([{"p_value": row["p_value"]} for row in rows(20, None)]))
    found = cli("watch", path, "--calibration", N, "--json")
    assert events(found.out)[-1]["flagged"] is None
    assert "20 inputs; evidence" in found.err


def test_one_stray_quote_costs_one_record_at_most(cli: Any, tmp_path: Path) -> None:
    records, path = rows(300, None), tmp_path / "s.csv"
    lines = text(records).splitlines()
    for field, lost in (('5" disk', 0), ('"5 disk', 1)):
        lines[50] = ",".join([field, *lines[50].split(",")[1:]])
        path.write_text("\n".join(lines) + "\n")
        state = tmp_path / f"{lost}.json"
        found = cli("watch", path, "--calibration", N, "--state", state, "--skip-bad", "--json")
        end = events(found.out)[-1]
        assert (end["inputs"], end["skipped"]) == (300 - lost, lost), found.err
        assert not lost or "line 51: a quoted field that begins here does not end" in found.err


def test_a_stray_quote_in_a_finished_file_names_its_line(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "s.csv"
    path.write_text('id,p_value\n1,0.5\n"2,0.5\n3,0.5\n')
    found = cli("watch", path, "--calibration", 1, "--alpha", 0.5)
    assert found.status == 2 and "line 3: a quoted field that begins here" in found.err


@pytest.fixture(scope="module")
def stranger(finished: Path) -> tuple[Path, dict[str, Any]]:
    """A run, and what it says of a score in the middle of its calibration."""
    calibrated = CalibrationSet.of_run(finished)
    assert calibrated.stored is not None and calibrated.stored.scores is not None
    score = float(np.median(calibrated.stored.scores))
    p = (1 + int((calibrated.stored.scores >= score).sum())) / (calibrated.n + 1)
    return finished, {"surprise": score, "p_value": p}


@pytest.mark.slow
@pytest.mark.parametrize(("off", "status"), [(0.0, 0), (1e-5, 0), (-1e-5, 0), (5.0, 2), (-5.0, 2)])
def test_a_p_value_that_the_run_does_not_give_is_refused(
    cli: Any, stranger: tuple[Path, dict[str, Any]], tmp_path: Path, off: float, status: int
) -> None:
    run, row = stranger
    path = tmp_path / "s.csv"
    path.write_text(text([row, row | {"surprise": row["surprise"] + off}]))
    found = cli("watch", path, "--run", run)
    assert found.status == status, found.err
    if status:
        said = " ".join(found.err.split())
        assert f"line 3: p_value: found {row['p_value']:g}, but a surprise of" in said
        assert "seed 0; allowed: the run and the seed that scored" in said
    bad = cli("plot", run, "--kind", "stream", "--scored", path, "--output", tmp_path / "s.png")
    assert bad.status == status and (not status or "line 3: p_value" in bad.err)


@pytest.mark.parametrize("digits", [0, 1, 2])
@pytest.mark.parametrize("predicted", [None, 0])
def test_a_rounded_surprise_is_told_as_that(
    finished: Path, digits: int, predicted: int | None
) -> None:
    ordered = np.linspace(0, 1, 1000)
    stored = StoredCalibration({}, ordered, np.zeros(1000, dtype=int))
    calibrated = CalibrationSet(1000, run=RunDir(finished), stored=stored)
    score = 0.3438
    p = (1 + int((ordered >= score).sum())) / 1001
    calibrated.check(p, score, predicted=predicted)
    with pytest.raises(InputError, match=rf"rounded to {digits} digits: give all of them, or none"):
        calibrated.check(p, round(score, digits), predicted=predicted)
    for other in (0.9, 0.91, 0.9123456):
        with pytest.raises(InputError, match="allowed: the run and the seed that scored"):
            calibrated.check(p, other, predicted=predicted)


@pytest.mark.slow
def test_another_seed_than_the_one_that_scored_is_refused(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    for name, options in (("plain", ()), ("own", ("--by-class",))):
        path = tmp_path / f"{name}.csv"
        scoring = cli("score", finished, "--input", "digits", "--output", path, *options)
        assert scoring.status == 0, scoring.err
        assert cli("watch", path, "--run", finished, "--seed", 0).status == 0
        found = cli("watch", path, "--run", finished, "--seed", 1)
        assert found.status == 2 and "p_value: found" in found.err


def test_layers_of_another_run_are_told(cli: Any, finished: Path, tmp_path: Path) -> None:
    path = scored(cli, finished, tmp_path)
    with path.open(newline="") as file:
        records = [*csv.DictReader(file)]
    names = [name for name in records[0] if name.startswith("bits:")]

    def watched(records: list[dict[str, Any]]) -> Any:
        path.write_text(text(records))
        return cli("watch", path, "--run", finished, "--json")

    renamed = watched(
        [{k.replace("blocks.1", "blocks.7"): v for k, v in r.items()} for r in records]
    )
    assert renamed.status == 2
    assert "line 2: no 'bits:blocks.1', a layer of" in renamed.err
    assert "did you mean" in renamed.err
    more = watched([r | {"bits:else": "1.0"} for r in records])
    assert more.status == 2 and "line 2: 'bits:else' is no layer of" in more.err
    fewer = watched([{k: v for k, v in r.items() if k != names[-1]} for r in records])
    assert fewer.status == 2 and f"line 2: no '{names[-1]}'" in fewer.err
    none = watched([{k: v for k, v in r.items() if k not in names} for r in records])
    assert none.status == 0 and events(none.out)[-1]["layers"] == {}, none.err
    assert "no 'bits:' columns; no layers are watched" in none.err


def test_the_command_that_goes_on_acknowledges_nothing(changed: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "nervecode", "watch", str(changed), "--calibration", str(N)]
    command += ["--follow", "--state", str(tmp_path / "s.json"), "--acknowledge"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("alarm at input")
        process.terminate()
        assert process.wait(20) == 143
        said = process.stderr.read()
    assert "no alarm to acknowledge" in said
    again = f"nervecode watch {changed} --calibration {N} --follow --state {tmp_path / 's.json'}"
    assert f"`{again}` goes on" in said
    assert json.loads((tmp_path / "s.json").read_text())["watcher"]["alarms"] == 1


def test_options_of_a_stream_are_of_no_other_picture(cli: Any, finished: Path) -> None:
    for option in (("--alpha", 0.1), ("--run-length", 99), ("--by-class",), ("--skip-bad",)):
        found = cli("plot", finished, "--kind", "roc", *option)
        assert found.status == 2
        assert f"{option[0]}: found with --kind roc, allowed: with --kind stream" in found.err


@pytest.mark.parametrize("kind", ["matrix", "training"])
def test_a_picture_of_all_seeds_takes_no_seed(kind: str, cli: Any, finished: Path) -> None:
    found = cli("plot", finished, "--kind", kind, "--seed", "1")
    assert found.status == 2
    assert f"--seed: found with --kind {kind}, allowed: with kinds of one seed" in found.err
