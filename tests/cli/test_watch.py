"""`nervecode watch`: files, pipes, alarms, states, and what cannot be watched."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nervecode.lab.config.stored import load_config
from nervecode.lab.data.splits import build_splits
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.checkpoint import load_calibration
from nervecode.monitor import Monitor
from tests.command_line import invoke

ROOT = Path(__file__).parents[2]
N = 200


def rows(length: int = 300, change: int | None = 150) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    calibration, scores = np.sort(rng.normal(size=N)), rng.normal(size=length)
    if change is not None:
        scores[change:] += 2.5
    p = (1 + N - np.searchsorted(calibration, scores)) / (N + 1)
    return [
        {"id": str(i), "p_value": x, "flag": x <= 0.05, "when": f"12:{i // 60:02}:{i % 60:02}"}
        for i, x in enumerate(p.tolist())
    ]


def text(records: list[dict[str, Any]], suffix: str = "csv") -> str:
    if suffix == "jsonl":
        return "".join(json.dumps(record) + "\n" for record in records)
    file = io.StringIO()
    writer = csv.DictWriter(file, records[0].keys(), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return file.getvalue()


def events(out: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.splitlines()]


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    path = tmp_path / "scores.csv"
    path.write_text(text(rows()))
    return path


def test_an_alarm_is_told_once_and_the_status_is_asked_for(cli: Any, changed: Path) -> None:
    found = cli("watch", changed, "--calibration", N, "--time", "when", "--ids")
    assert found.status == 0, found.err
    assert found.out.count("alarm at input") == 1
    assert "; at 12:02:3" in found.out and ", since about 12:02:3" in found.out
    assert "; id 15" in found.out and ", since about 15" in found.out
    assert "300 inputs, " in found.err and " flagged; evidence 10^" in found.err
    failed = cli("watch", changed, "--calibration", N, "--fail")
    assert failed.status == 5
    assert "alarm at input" in failed.out
    assert int(failed.err.split(" inputs")[0]) < 170


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_json_events_of_either_format(cli: Any, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"scores.{suffix}"
    path.write_text(text(rows(), suffix))
    found = cli("watch", path, "--calibration", N, "--json", "--time", "when")
    alarm, end = events(found.out)
    assert alarm["since_id"] == str(alarm["since"] - 1)
    assert alarm["event"] == "alarm" and 150 < alarm["input"] < 170 and 140 < alarm["since"] < 160
    assert alarm["id"] == str(alarm["input"] - 1)
    assert alarm["time"] == rows()[alarm["input"] - 1]["when"]
    assert alarm["since_time"] == rows()[alarm["since"] - 1]["when"]
    assert end["event"] == "end" and end["inputs"] == 300 and end["alarms"] == 1
    assert end["flagged"] == sum(row["flag"] for row in rows())


def test_no_change_no_alarm(cli: Any, tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text(text(rows(change=None)))
    found = cli("watch", path, "--calibration", N, "--fail")
    assert found.status == 0 and found.out == "" and "no alarm" in found.err


def test_restart_goes_on_after_an_alarm(cli: Any, changed: Path) -> None:
    found = cli("watch", changed, "--calibration", N, "--run-length", 100, "--restart", "--json")
    *alarms, end = events(found.out)
    assert len(alarms) == end["alarms"] > 1


def test_a_pipe_is_watched(changed: Path) -> None:
    command = [sys.executable, "-m", "nervecode", "watch", "-", "--calibration", str(N), "--json"]
    for source in (changed.read_text(), text(rows(), "jsonl").rstrip()):
        done = subprocess.run(
            command, input=source, capture_output=True, text=True, cwd=ROOT, check=True
        )
        alarm, end = events(done.stdout)
        assert 150 < alarm["input"] < 170 and end["inputs"] == 300


def test_a_state_goes_on_where_it_stood(cli: Any, changed: Path, tmp_path: Path) -> None:
    whole = text(rows())
    options = ("--calibration", N, "--json", "--time", "when")
    expected = events(cli("watch", changed, *options).out)[:-1]
    state, found = tmp_path / "state.json", []
    for end in (5, 700, 701, 3000, 4000, 7000, len(whole)):
        changed.write_text(whole[:end])
        result = cli("watch", changed, *options, "--state", state)
        found += [event for event in events(result.out) if event["event"] == "alarm"]
        assert result.status == (2 if end == 5 else 0)  # not even a header
    assert found == expected
    again = cli("watch", changed, "--calibration", N, "--time", "when", "--state", state, "--fail")
    assert again.status == 5 and again.out == "" and "alarm at input" in again.err
    anew = cli("watch", changed, *options, "--state", state, "--restart", "--fail")
    assert anew.status == 0 and "alarms: 1" in anew.err


@pytest.mark.slow
def test_an_alarm_before_a_kill_may_be_told_again_but_never_otherwise(
    cli: Any, changed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed at 20 random records, at most saved at alarms and now and then: the same alarms."""
    from nervecode.lab.watch import job

    changed.write_text(text(rows(900, 400)))
    options = ("--calibration", N, "--json", "--run-length", 50, "--restart")
    expected = events(cli("watch", changed, *options).out)[:-1]
    assert len(expected) > 5
    rng, found = random.Random(0), []
    parse = job.Tail.parse
    monkeypatch.setattr(job, "SAVED_EVERY", 0.02)
    left = 0

    def killed(self: Any, record: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            raise MemoryError
        return parse(self, record)

    monkeypatch.setattr(job.Tail, "parse", killed)
    for _ in range(20):
        left = rng.randrange(1, 120)
        result = cli("watch", changed, *options, "--state", tmp_path / "state.json")
        found += events(result.out)
    left = -1
    found += events(cli("watch", changed, *options, "--state", tmp_path / "state.json").out)[:-1]
    distinct = {event["input"]: event for event in found if event["event"] == "alarm"}
    assert list(distinct.values()) == expected
    assert all(event in expected for event in found if event["event"] == "alarm")


@pytest.mark.slow
def test_kill_and_resume_of_the_process_at_twenty_random_places(tmp_path: Path) -> None:
    path, state = tmp_path / "scores.csv", tmp_path / "state.json"
    path.write_text(text(rows(40_000, 20_000)))
    options = [str(path), "--calibration", str(N), "--json", "--run-length", "50", "--restart"]
    command = [sys.executable, "-m", "nervecode", "watch", *options]
    run = {"capture_output": True, "text": True, "cwd": ROOT}
    expected = events(subprocess.run(command, check=True, **run).stdout)[:-1]  # type: ignore[call-overload]
    rng, alarms = random.Random(0), {}
    for _ in range(20):
        with subprocess.Popen(
            [*command, "--state", str(state)], stdout=subprocess.PIPE, text=True, cwd=ROOT
        ) as process:
            time.sleep(rng.uniform(0.5, 2.5))
            process.kill()
            lines = (process.stdout.read() if process.stdout else "").splitlines(keepends=True)
        told = events("".join(line for line in lines if line.endswith("\n")))
        # A quick process may reach the end of the file, and tell of it, before it is killed.
        alarms |= {event["input"]: event for event in told if event["event"] == "alarm"}
    last = subprocess.run([*command, "--state", str(state)], check=True, **run)  # type: ignore[call-overload]
    alarms |= {event["input"]: event for event in events(last.stdout)[:-1]}
    assert list(alarms.values()) == expected


def test_alarms_go_to_standard_output_where_a_terminal_shows_the_state(changed: Path) -> None:
    """Standard error is a terminal, standard output a file."""
    terminal, end = os.openpty()
    command = [sys.executable, "-m", "nervecode", "watch", str(changed), "--calibration", str(N)]
    done = subprocess.run([*command, "--json"], stdout=subprocess.PIPE, stderr=end, cwd=ROOT,
                          env=os.environ | {"TERM": "xterm"}, check=True)  # fmt: skip
    os.close(end)
    with open(terminal, "rb", buffering=0) as file:
        shown = file.read(1 << 16).decode()
    assert [event["event"] for event in events(done.stdout.decode())] == ["alarm", "end"]
    assert "\x1b[2K" in shown and "300 inputs, " in shown and '"event"' not in shown


@pytest.mark.slow
def test_a_growing_file_is_followed_until_interrupted(tmp_path: Path) -> None:
    path, state = tmp_path / "scores.csv", tmp_path / "state.json"
    whole = text(rows())
    path.write_text(whole[:100])
    command = [sys.executable, "-m", "nervecode", "watch", str(path), "--calibration", str(N)]
    with subprocess.Popen(
        [*command, "--follow", "--state", str(state)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT,
    ) as process:  # fmt: skip
        for start in range(100, len(whole), 1000):
            with path.open("a") as file:
                file.write(whole[start : start + 1000])
            time.sleep(0.05)
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("alarm at input")
        while not state.exists():
            time.sleep(0.05)
        time.sleep(0.5)
        process.terminate()
        assert process.wait(20) == 143
        again = f"nervecode watch {path} --calibration {N} --follow --state {state}"
        assert f"`{again}` goes on" in process.stderr.read()
    assert json.loads(state.read_text())["place"]["offset"] == len(whole)


def test_metrics_are_prometheus_text(cli: Any, changed: Path, tmp_path: Path) -> None:
    path = tmp_path / "metrics.prom"
    assert cli("watch", changed, "--calibration", N, "--metrics", path).status == 0
    lines = path.read_text().splitlines()
    values = dict(line.split(" ") for line in lines if not line.startswith("#"))
    assert values["nervecode_monitor_inputs_total"] == "300"
    assert values["nervecode_monitor_alarm"] == values["nervecode_monitor_alarms_total"] == "1"
    assert float(values["nervecode_monitor_threshold_log10"]) == 2
    for name in values:
        kind = "counter" if name.endswith("_total") else "gauge"
        assert f"# TYPE {name} {kind}" in lines
    assert not [name for name in os.listdir(tmp_path) if name.endswith(".tmp")]


def scored(cli: Any, finished: Path, tmp_path: Path, copies: int = 1) -> Path:
    """Noise, as `score` writes it."""
    np.save(tmp_path / "in.npy", np.random.default_rng(0).random((60, 1, 8, 8), dtype=np.float32))
    path = tmp_path / "scored.csv"
    assert cli("score", finished, "--input", tmp_path / "in.npy", "--output", path).status == 0
    return path


def test_a_run_says_which_layers_changed(cli: Any, finished: Path, tmp_path: Path) -> None:
    path = scored(cli, finished, tmp_path)
    found = cli("watch", path, "--run", finished, "--json")
    assert found.status == 0, found.err
    alarm, end = events(found.out)
    assert set(end["layers"]) == {*(f"blocks.{i}" for i in range(4)), "head:label"}
    assert set(end["named_layers"]) <= set(end["layers"]) and end["named_layers"]
    assert alarm["input"] < 30
    by_class = cli("watch", path, "--run", finished, "--by-class", "--json", "--alpha", 0.05)
    assert by_class.status == 0, by_class.err
    assert events(by_class.out)[-1]["inputs"] == 60


def test_a_run_is_watched_without_a_bench_and_after_an_addition(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    """What `score` and `calibrate` leave suffices: the same as of the run with all its scores."""
    path, bare = scored(cli, finished, tmp_path), tmp_path / "runs" / "bare"
    shutil.copytree(finished, bare)
    for folder in ("scores", "layerwise"):
        shutil.rmtree(bare / folder)
    for options in ((), ("--by-class", "--alpha", 0.05)):
        ends = [cli("watch", path, "--run", run, "--json", *options) for run in (finished, bare)]
        assert ends[0].status == 0 and ends[0].out == ends[1].out, ends[1].err
    drawn = cli("plot", bare, "--kind", "stream", "--scored", path, "--output", tmp_path / "s.png")
    assert drawn.status == 0, drawn.err
    added = cli("calibrate", bare, "--add", tmp_path / "in.npy")
    assert added.status == 0, added.err
    grown, again = added.out.strip().splitlines()[-1], tmp_path / "again.csv"
    assert cli("score", grown, "--input", tmp_path / "in.npy", "--output", again).status == 0
    for options in ((), ("--by-class", "--alpha", 0.05)):
        watched = cli("watch", again, "--run", grown, "--json", *options)
        assert watched.status == 0, watched.err
        assert events(watched.out)[-1]["inputs"] == 60


@pytest.fixture(scope="module")
def within(blobs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Scores of ID points and of far ones after them: of all classes, and within the predicted."""
    folder = tmp_path_factory.mktemp("within")
    x = build_splits(load_config(blobs / "config.yaml").data).test.inputs.numpy()
    np.save(folder / "x.npy", np.concatenate([x[:150], x[150:200] + 3]))
    for name, options in (("plain", []), ("own", ["--by-class"])):
        base = ("score", blobs, "--input", folder / "x.npy", *options)
        assert invoke(*base, "--output", folder / f"{name}.csv").status == 0
    return {name: folder / f"{name}.csv" for name in ("plain", "own")}


def test_p_values_within_classes_are_watched_as_they_are(
    cli: Any, blobs: Path, within: dict[str, Path]
) -> None:
    calibration = load_calibration(RunDir(blobs), 0)
    (label,) = (pair for name, pair in calibration.layers.items() if name.endswith(":label"))
    counts = np.bincount(label[:, 1].long().numpy(), minlength=3)
    monitor = Monitor(dict(enumerate(counts.tolist())), alpha=0.01)
    with within["own"].open(newline="") as file:
        for row in csv.DictReader(file):
            monitor.update(float(row["p_value"]), predicted=int(row["prediction"]))
    assert monitor.alarm is not None
    found = cli("watch", within["own"], "--run", blobs, "--json")
    assert found.status == 0, found.err
    alarm, end = events(found.out)
    assert alarm["input"] == monitor.alarm.input > 150
    assert end["log10_evidence"] == pytest.approx(monitor.log10_evidence, abs=1e-9)
    plain = cli("watch", within["plain"], "--run", blobs, "--by-class", "--json")
    assert abs(events(plain.out)[0]["input"] - alarm["input"]) <= 1  # scores are float32 in files
    drawn = cli("plot", blobs, "--kind", "stream", "--scored", within["own"],
                "--output", within["own"].with_suffix(".png"))  # fmt: skip
    assert drawn.status == 0, drawn.err


def test_pooled_p_values_become_those_within_the_class(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    path = scored(cli, finished, tmp_path)
    own = tmp_path / "own.csv"
    assert not cli("score", finished, "--input", tmp_path / "in.npy", "--by-class",
                   "--output", own).status  # fmt: skip
    found = cli("watch", own, "--run", finished, "--json")
    plain = cli("watch", path, "--run", finished, "--by-class", "--json")
    assert found.status == 0, found.err
    assert found.out == plain.out


def test_a_state_by_class_goes_on(cli: Any, blobs: Path, within: dict[str, Path]) -> None:
    path, state = within["own"].with_name("part.csv"), within["own"].with_name("state.json")
    whole = within["own"].read_text()
    for end in (len(whole) // 2, len(whole)):
        path.write_text(whole[:end])
        found = cli("watch", path, "--run", blobs, "--state", state, "--json")
        assert found.status == 0, found.err
    expected = events(cli("watch", within["own"], "--run", blobs, "--json").out)[-1]
    assert events(found.out)[-1] == expected


def test_a_state_of_other_classes_is_told_as_that(
    cli: Any, blobs: Path, within: dict[str, Path], tmp_path: Path
) -> None:
    state = tmp_path / "plain.json"
    base = ("watch", within["plain"], "--run", blobs, "--state")
    assert cli(*base, state).status == 0
    before = state.read_bytes()
    found = cli(*base, state, "--by-class")
    assert found.status == 2
    assert "was begun without --by-class; leave it out, or give another" in found.err
    assert state.read_bytes() == before
    state = tmp_path / "classes.json"
    said = "classes go on being watched, as it was begun"
    for options, told in ((("--by-class",), False), (("--by-class",), False), ((), True)):
        found = cli(*base, state, *options)
        assert found.status == 0 and (said in found.err) == told, found.err


@pytest.mark.parametrize(
    ("replace", "message"),
    [
        ({"pooled": "maybe"}, "line 3: pooled: found 'maybe', allowed: True or False"),
        ({"prediction": "nan"}, "line 3: prediction: found nan, allowed: a class"),
        ({"prediction": "7"}, "line 3: predicted: found 7"),
        ({"pooled": "True", "p_value": "nan"}, "line 3: p_value: found nan, allowed: 0 < p <= 1"),
        ({"p_value": "0.0001"}, "calibration inputs never give, allowed: multiples of 1/"),
    ],
)
def test_bad_records_within_classes(
    cli: Any, blobs: Path, within: dict[str, Path], replace: dict[str, str], message: str
) -> None:
    with within["own"].open(newline="") as file:
        records = [*csv.DictReader(file)][:5]
    path = within["own"].with_name("bad.csv")
    path.write_text(text([records[0], records[1] | replace, *records[2:]]))
    found = cli("watch", path, "--run", blobs)
    assert found.status == 2 and message in found.err, found.err
    assert "Traceback" not in found.err


def test_p_values_within_classes_need_a_run_and_do_not_mix(
    cli: Any, blobs: Path, within: dict[str, Path]
) -> None:
    found = cli("watch", within["own"], "--calibration", 240)
    assert found.status == 2 and found.err.count("\n") == 1
    assert "found --calibration, allowed: --run RUN, which knows how many" in found.err
    rows_of = {}
    for name, path in within.items():
        with path.open(newline="") as file:
            rows_of[name] = [*csv.DictReader(file)]
    mixed = within["own"].with_name("mixed.jsonl")
    mixed.write_text(text([*rows_of["plain"][:3], *rows_of["own"][3:5]], "jsonl"))
    found = cli("watch", mixed, "--run", blobs)
    assert found.status == 2
    assert "line 4: found a p-value within the predicted class (column 'pooled')" in found.err


def test_a_state_of_another_calibration_is_refused(cli: Any, changed: Path, tmp_path: Path) -> None:
    state = tmp_path / "state.json"
    assert cli("watch", changed, "--calibration", N, "--state", state).status == 0
    before = state.read_bytes()
    other = tmp_path / "other.csv"
    other.write_text(changed.read_text())
    for options, message in [
        (
            (changed, "--calibration", 2 * N + 1),
            "begun with 200 calibration inputs, here are 401",
        ),
        ((changed, "--calibration", N, "--alpha", 0.05), "begun with --alpha 0.01; give the same"),
        ((changed, "--calibration", N, "--run-length", 99), "begun with --alpha 0.01; give the"),
        ((other, "--calibration", N), "give each source a state of its own"),
    ]:
        found = cli("watch", *options, "--state", state)
        assert found.status == 2 and message in found.err
        assert state.read_bytes() == before


@pytest.mark.parametrize(
    ("replace", "options", "message"),
    [
        ({"p_value": "0"}, (), "line 4: p_value: found 0.0, allowed: 0 < p <= 1"),
        ({"p_value": "nan"}, (), "line 4: p_value: found nan"),
        ({"p_value": "high"}, (), "line 4: p_value: found 'high', allowed: a number"),
        ({"p_value": "0.0123"}, (), "which 200 calibration inputs never give"),
        ({"id": "1"}, ("--ids",), "line 4: id '1' comes twice"),
        ({"id": "0"}, ("--ids",), "line 4: id '0' comes after '1', out of order"),
    ],
)
def test_a_bad_record_is_told_and_changes_nothing(
    cli: Any, tmp_path: Path, replace: dict[str, str], options: tuple[str, ...], message: str
) -> None:
    records, path, state = rows(20, None), tmp_path / "scores.csv", tmp_path / "state.json"
    path.write_text(text(records[:2]))
    base = ("watch", path, "--calibration", N, "--state", state, *options)
    assert cli(*base).status == 0
    before = state.read_bytes()
    path.write_text(text([*records[:2], records[2] | replace, *records[3:]]))
    found = cli(*base)
    assert found.status == 2 and message in found.err and found.err.count("\n") == 1
    assert state.read_bytes() == before
    passed = cli(*base, "--skip-bad")
    assert passed.status == 0 and "19 inputs" in passed.err and "1 skipped" in passed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "--calibration and --run: found neither"),
        (("--calibration", 5, "--run", "."), "found both"),
        (("--run", Path(__file__).parent), "is no run directory: it has no meta.json"),
        (("--calibration", 5, "--by-class"), "--by-class: found without --run"),
        (("--calibration", 5, "--seed", 1), "--seed: found without --run"),
        (("--calibration", N, "--alpha", 2), "alpha: found 2"),
        (("--calibration", 1, "--alpha", 1e-9), "1 calibration inputs cannot serve"),
        (("--calibration", N, "--alpha", 0.1, "--run-length", 9), "found both"),
        (("--calibration", N, "--time", "wen"), "no 'wen'; did you mean 'when'?"),
    ],
)
def test_options_that_make_no_sense(
    cli: Any, changed: Path, options: tuple[object, ...], message: str
) -> None:
    found = cli("watch", changed, *options)
    assert found.status == 2 and message in found.err and "Traceback" not in found.err


@pytest.mark.parametrize(
    "names", [("source", "metrics"), ("source", "state"), ("state", "metrics")]
)
def test_no_output_replaces_another_file(
    cli: Any, changed: Path, tmp_path: Path, names: tuple[str, str]
) -> None:
    link, before = tmp_path / "link.csv", changed.read_bytes()
    link.symlink_to(changed)
    options: tuple[object, ...] = ("--state", tmp_path / "s.json", "--metrics", tmp_path / "s.json")
    if names[0] == "source":
        options = (f"--{names[1]}", link)
    found = cli("watch", changed, "--calibration", N, *options)
    assert found.status == 2 and "is the same file as" in found.err
    assert changed.read_bytes() == before and not (tmp_path / "s.json").exists()


def test_outputs_that_cannot_be_written_are_told_before_anything_is_read(
    cli: Any, changed: Path, tmp_path: Path
) -> None:
    for option in ("--state", "--metrics"):
        found = cli("watch", changed, "--calibration", N, option, tmp_path / "none" / "s.json")
        assert found.status == 2 and f"{option} " in found.err and "no such folder" in found.err
        assert "alarm" not in found.out and not (tmp_path / "none").exists()
        found = cli("watch", changed, "--calibration", N, option, tmp_path)
        assert found.status == 2 and "cannot be written" in found.err


def test_bad_records_before_the_first_good_one_are_skipped(cli: Any, tmp_path: Path) -> None:
    path, good = tmp_path / "s.jsonl", text(rows(5, None), "jsonl")
    path.write_text('[1]\n{"p_value": null}\n{"p_value": true}\n' + good)
    found = cli("watch", path, "--calibration", N, "--skip-bad", "--json")
    assert found.status == 0, found.err
    assert events(found.out)[-1]["inputs"] == 5 and events(found.out)[-1]["skipped"] == 3
    assert "line 2: p_value: found null, allowed: a value" in found.err
    assert "line 3: p_value: found True, allowed: a number" in found.err
    path.write_text("[1]\n[2]\n")
    found = cli("watch", path, "--calibration", N, "--skip-bad")
    assert found.status == 2 and "holds no record that can be read: 2 skipped" in found.err


def test_a_last_record_without_an_end_of_line_waits_and_that_is_said(
    cli: Any, changed: Path, tmp_path: Path
) -> None:
    changed.write_text(text(rows(2, None)).rstrip())
    base = ("watch", changed, "--calibration", N)
    found = cli(*base, "--state", tmp_path / "s.json")
    assert found.status == 0 and "1 input, " in found.err
    assert "line 3: has no end of line, as if half-written" in " ".join(found.err.split())
    assert "2 inputs, " in cli(*base).err


def test_an_empty_file_holds_no_record(cli: Any, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,p_value\n")
    found = cli("watch", tmp_path / "a.csv", "--calibration", N)
    assert found.status == 2 and "holds no record" in found.err


def test_watching_loads_no_torch(changed: Path, finished: Path) -> None:
    code = (
        "import sys; from nervecode.cli.main import run; "
        f"assert run(['watch', {str(changed)!r}, '--calibration', '{N}', '--quiet']) == 0; "
        f"assert run(['watch', {str(changed)!r}, '--run', {str(finished)!r}]) == 2; "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
