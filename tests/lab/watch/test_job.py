"""A watch that ends at any moment: its state is that of whole steps, and no other is taken up."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.lab.machine.interrupt import Interrupted
from nervecode.lab.watch import job as jobs
from nervecode.lab.watch.job import Heard, WatchJob
from nervecode.lab.watch.watcher import AlarmEvent, Watcher
from nervecode.monitor import Monitor

N = 99


class Ears:
    """What a job has told."""

    def __init__(self) -> None:
        self.alarms: list[AlarmEvent] = []
        self.notices: list[str] = []

    def heard(self, alarm: Callable[[AlarmEvent], None] | None = None) -> Heard:
        return Heard(alarm or self.alarms.append, self.notices.append, lambda _: None)


def work(path: Path, ears: Ears | None = None, **options: Any) -> Watcher:
    return WatchJob(str(path), N, **options).work((ears or Ears()).heard())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """50 inputs as calibrated, then 50 that are all as surprising as can be."""
    file = tmp_path / "scores.csv"
    ranks = [*range(1, 100, 2), *[1] * 50]
    rows = [f"{i},{rank / (N + 1)}" for i, rank in enumerate(ranks)]
    file.write_text("\n".join(["id,p_value", *rows]) + "\n")
    return file


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state.json"


@pytest.mark.parametrize("error", [BrokenPipeError(), NervecodeError("full"), Interrupted(2)])
def test_an_alarm_that_could_not_be_told_is_told_again(
    path: Path, state: Path, error: BaseException
) -> None:
    def fail(_: AlarmEvent) -> None:
        raise error

    expected = Ears()
    whole = work(path, expected, restart=True)
    with pytest.raises(type(error)):
        WatchJob(str(path), N, restart=True, state=state).work(Ears().heard(fail))
    again = Ears()
    watcher = work(path, again, restart=True, state=state)
    assert again.alarms == expected.alarms and again.alarms
    assert watcher.monitor.inputs == 100
    assert watcher.state_dict() == whole.state_dict()


def test_an_interrupt_within_an_update_leaves_no_trace(
    path: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = Monitor.update

    def cut(self: Monitor, *arguments: Any, **named: Any) -> Any:
        alarm = update(self, *arguments, **named)
        if self.inputs == 40:
            raise Interrupted(15)
        return alarm

    monkeypatch.setattr(jobs, "SAVED_EVERY", 0.0)
    with monkeypatch.context() as patched:
        patched.setattr(Monitor, "update", cut)
        with pytest.raises(Interrupted):
            work(path, state=state)
    assert json.loads(state.read_text())["watcher"]["monitor"]["inputs"] == 39
    assert work(path, state=state).state_dict() == work(path).state_dict()


def test_an_alarm_is_acknowledged_once(path: Path, state: Path) -> None:
    ears = Ears()
    work(path, ears, state=state)
    (first,) = ears.alarms
    ears = Ears()
    watcher = work(path, ears, state=state, acknowledge=True)
    assert ears.notices == [f"{state}: acknowledged: {first.alarm}"]
    assert watcher.monitor.alarm is None and watcher.alarms == 1
    with path.open("a") as file:
        file.write("".join(f"{i},0.01\n" for i in range(100, 160)))
    ears = Ears()
    watcher = work(path, ears, state=state)
    (second,) = ears.alarms
    assert watcher.monitor.alarm == second.alarm and 100 < second.alarm.input < 160
    assert second.mark.id == str(second.alarm.input - 1)


def test_what_is_said_to_be_acknowledged_is_kept(path: Path, state: Path) -> None:
    work(path, state=state)
    away, ears = path.with_name("away.csv"), Ears()
    path.rename(away)
    with pytest.raises(InputError, match=r"scores\.csv: no such file"):
        work(path, ears, state=state, acknowledge=True)
    assert ears.notices == []
    path.mkdir()
    with pytest.raises(InputError):
        work(path, ears, state=state, acknowledge=True)
    assert ears.notices == []
    path.rmdir()
    away.rename(path)

    def killed(_: str) -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        WatchJob(str(path), N, state=state, acknowledge=True).work(
            Heard(ears.alarms.append, killed, lambda _: None)
        )
    assert work(path, state=state).monitor.alarm is None


def test_what_there_is_to_acknowledge(path: Path, state: Path) -> None:
    ears = Ears()
    work(path, ears, state=state, acknowledge=True)
    assert ears.notices == [f"{state}: no alarm to acknowledge"] and ears.alarms
    with pytest.raises(InputError, match="--acknowledge: found without --state"):
        work(path, acknowledge=True)


def test_counters_say_nothing_of_a_latch_where_no_alarm_latches(path: Path, tmp_path: Path) -> None:
    for restart in (False, True):
        work(path, restart=restart, metrics=tmp_path / "m.prom")
        lines = (tmp_path / "m.prom").read_text().splitlines()
        assert ("nervecode_monitor_alarm 1" in lines) != restart
        assert not [line for line in lines if line.startswith("nervecode_monitor_alarm 0")]
        assert any(line.startswith("nervecode_monitor_alarms_total ") for line in lines)


def test_counters_that_cannot_be_written_are_told_once_and_end_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: str) -> None:
        raise NervecodeError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(jobs, "SAVED_EVERY", 0.0)
    monkeypatch.setattr(jobs, "write_text", full)
    ears = Ears()
    watcher = work(path, ears, metrics=tmp_path / "m.prom", until_alarm=True)
    assert watcher.monitor.alarm is not None and len(ears.alarms) == 1
    assert ears.notices == [
        f"--metrics: {tmp_path / 'm.prom'}: cannot be written (No space left on device)"
    ]


DAMAGE: list[tuple[str, Callable[[Any], Any]]] = [
    ("null", lambda _: None),
    ("list", lambda _: []),
    ("empty", lambda _: {}),
    *[
        (f"offset {offset!r}", lambda held, offset=offset: _placed(held, offset=offset))
        for offset in ("x", 10**30, -5, 1.5, None, True, 0, 3)
    ],
    ("line", lambda held: _placed(held, line=-1)),
    ("known", lambda held: _placed(held, known="xy")),
    ("columns", lambda held: _placed(held, columns=[1, 2])),
    ("more", lambda held: _placed(held, more=1)),
    ("last id", lambda held: held | {"watcher": held["watcher"] | {"last_id": 3}}),
    ("flagged", lambda held: held | {"watcher": held["watcher"] | {"flagged": -1}}),
]


def _placed(held: Any, **changed: Any) -> Any:
    return held | {"place": held["place"] | changed}


@pytest.mark.parametrize("damage", [damage for _, damage in DAMAGE], ids=[n for n, _ in DAMAGE])
def test_a_state_that_no_watch_wrote_is_refused_and_kept(
    path: Path, state: Path, damage: Callable[[Any], Any]
) -> None:
    work(path, state=state)
    state.write_text(json.dumps(damage(json.loads(state.read_text()))))
    before = state.read_bytes()
    with pytest.raises(
        (ArtifactError, InputError), match=r"state\.json: (is damaged|has no key 'format', allowed)"
    ):
        work(path, state=state)
    assert state.read_bytes() == before


def test_how_many_calibration_inputs_there_can_be(path: Path) -> None:
    for n in (0, -1, 10**7 + 1, 99999999999999999999999):
        with pytest.raises(InputError, match=f"--calibration: found {n}, allowed: 1 to 10,000,000"):
            WatchJob(str(path), n).work(Ears().heard())


@pytest.mark.parametrize(
    ("flags", "flagged"),
    [
        (["True", "False", "true"], 2),
        (["TRUE", "FALSE", "FALSE"], 1),
        (["1", "0", "1.0"], 2),
        (["False", "False", "False"], 0),
        (["True", "", "False"], None),
    ],
)
def test_flags_are_counted_where_all_are_known(
    tmp_path: Path, flags: list[str], flagged: int | None
) -> None:
    file = tmp_path / "a.csv"
    file.write_text("\n".join(["p_value,flag", *[f"0.5,{flag}" for flag in flags]]) + "\n")
    watcher = work(file, state=tmp_path / "s.json", metrics=tmp_path / "m")
    assert watcher.flagged == flagged
    assert ("flagged_total" in (tmp_path / "m").read_text()) == (flagged is not None)
    assert work(file, state=tmp_path / "s.json").flagged == flagged


@pytest.mark.parametrize("flag", ["yes", "maybe", "2", "nan"])
def test_flags_that_are_not_understood_are_refused(tmp_path: Path, flag: str) -> None:
    file = tmp_path / "a.csv"
    file.write_text(f"p_value,flag\n0.5,True\n0.5,{flag}\n")
    with pytest.raises(InputError, match=f"line 3: flag: found '{flag}', allowed: True or False"):
        work(file)


def test_a_file_without_flags_has_none_counted(path: Path) -> None:
    assert work(path).flagged is None


@pytest.mark.parametrize(
    ("ids", "fault"),
    [
        (["9.0", "10.0", "10.5"], ""),
        ([9.0, 10.0], ""),
        ([-2, -1, 0, 9, "10.0", "a"], ""),
        (["9", "9.0"], "'9.0' comes twice"),
        (["10.0", "9.0"], "'9.0' comes after '10.0'"),
        ([-1, -2], "'-2' comes after '-1'"),
        (["9" * 5000, "8" * 5000], "out of order"),
    ],
)
def test_numbers_ascend_as_numbers(tmp_path: Path, ids: list[Any], fault: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"id": i, "p_value": 0.5}) + "\n" for i in ids))
    if not fault:
        assert work(file, ids=True).monitor.inputs == len(ids)
    else:
        with pytest.raises(InputError, match=fault):
            work(file, ids=True)


def test_ids_ascend_as_score_sorts_paths(tmp_path: Path) -> None:
    file, folders = tmp_path / "a.jsonl", tmp_path / "x"
    names = ["a/1.png", "a/b/1.png", "a-b/1.png", "a.png", "b/1.png"]
    for name in names:
        (folders / name).parent.mkdir(parents=True, exist_ok=True)
        (folders / name).touch()
    ordered = [str(p.relative_to(folders)) for p in sorted(folders.rglob("*.png"))]
    assert ordered != sorted(names)
    for ids, good in ((ordered, True), (ordered[::-1], False), ([*ordered, "b/1.png"], False)):
        file.write_text("".join(json.dumps({"id": i, "p_value": 0.5}) + "\n" for i in ids))
        if good:
            assert work(file, ids=True).monitor.inputs == len(names)
        else:
            with pytest.raises(InputError, match=r"out of order|comes twice"):
                work(file, ids=True)
