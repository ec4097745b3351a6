"""A state that lasts: sums that fit, errors that leave it as it was, alarms that it can have."""

import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nervecode.errors import ArtifactError, InputError
from nervecode.monitor import Monitor
from nervecode.monitor.reference import FULL
from nervecode.monitor.stream import BLOCK
from tests.monitor.edits import edited

LAYERS = ("a", "b")


def after_many(n: int, rounds: int) -> Monitor:
    """A monitor after all n + 1 ranks have come `rounds` times."""
    monitor = Monitor(n, run_length=1e5)
    state = monitor.state_dict()
    sums = [x * (rounds + 1) for x in state["reference"]["sums"][0]]
    state["inputs"] = state["restarted"] = (n + 1) * rounds
    state["reference"] = {"sums": [sums], "seen": [(n + 1) * (rounds + 1)]}
    monitor.load_state_dict(state)
    return monitor


@pytest.mark.filterwarnings("error")
def test_evidence_is_finite_after_billions_of_inputs() -> None:
    """The price of the smallest p times the inputs, 3.7e9 of them, is more than 64 bits hold."""
    few, many = after_many(100_000, 100), after_many(100_000, 37_000)
    for monitor in (few, many):
        monitor.update_many(np.full(6, 1 / 100_001))
        assert monitor.alarm is not None
    assert many.log10_evidence == pytest.approx(few.log10_evidence, abs=0.01)
    Monitor(100_000, run_length=1e5).load_state_dict(json.loads(json.dumps(many.state_dict())))


def test_a_full_reference_is_told_before_it_overflows() -> None:
    monitor = Monitor(99, alpha=0.05)
    monitor.update_many(np.full(50, 0.1))
    assert monitor.alarm is not None
    stream = monitor._stream
    stream.reference.sums[:] = FULL - 1
    stream.reference.seen[:] = 1 << 42
    stream.inputs = (1 << 42) - BLOCK
    monitor.update_many(np.full(BLOCK - 1, 0.1))
    before = monitor.inputs, monitor.log10_evidence
    calls: list[Callable[[], object]] = [
        lambda: monitor.update(0.1),
        lambda: monitor.update_many(np.full(3, 0.1)),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"are full, allowed: restart\(forget=True\)"):
            call()
    assert (monitor.inputs, monitor.log10_evidence) == before
    with pytest.raises(InputError, match="merge: reference: the sums of all are too large"):
        monitor.merge([copy.deepcopy(monitor)])
    monitor.restart(forget=True)
    monitor.update(0.1)


@pytest.mark.parametrize("promise", [{"alpha": 0.01}, {"run_length": 100}])
def test_numpy_that_raises_for_tiny_numbers_changes_nothing(promise: dict[str, float]) -> None:
    counts = {0: 99, 1: 50}
    calm, strict = (Monitor(counts, layers=LAYERS, **promise) for _ in range(2))  # type: ignore[arg-type]

    def run(monitor: Monitor) -> None:
        monitor.update(0.01, predicted=0, layers=[0.5, 1 / 150])
        monitor.update_many(
            np.full(900, 0.01), predicted=[0] * 900, layers=np.full((900, 2), 1 / 150)
        )
        monitor.update(1.0, predicted=1, layers=[1.0, 1.0])
        monitor.restart()
        monitor.update(1.0, predicted=1, layers=[1.0, 1.0])
        state = json.loads(json.dumps(monitor.state_dict()))
        monitor.merge([Monitor(counts, layers=LAYERS, **promise)])  # type: ignore[arg-type]
        monitor.load_state_dict(state)

    run(calm)
    with np.errstate(all="raise"):
        run(strict)
    assert strict.state_dict() == calm.state_dict()


def test_an_update_that_fails_half_way_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = Monitor(99, layers=LAYERS)
    monitor.update(0.5, layers=[0.5, 0.5])
    before = monitor.state_dict()

    def broken(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("nervecode.monitor.evidence.log_mean", broken)
    with pytest.raises(MemoryError):
        monitor.update(0.5, layers=[0.5, 0.5])
    with pytest.raises(MemoryError):
        monitor.update_many([0.5], layers=[[0.5, 0.5]])  # type: ignore[arg-type]
    assert monitor.state_dict() == before


@pytest.mark.parametrize(
    "edit",
    [
        edited("alarm", "log10_evidence", value="x"),
        edited("alarm", "log10_evidence", value=float("nan")),
        edited("alarm", "log10_evidence", value=True),
        edited("alarm", "layers", value=[1]),
        edited("alarm", "layers", value=["c"]),
        edited("alarm", "layers", value=None),
        edited("alarm", "input", value="x"),
        edited("alarm", "input", value=10**6),
        edited("alarm", "since", value=-5),
        edited("alarm", "since", value=1.5),
        edited("alarm", "kind", value="boom"),
        edited("alarm", "predicted", value=3),
        edited("alarm", "predicted", value=[]),
        edited("alarm", value=3),
        edited("merged", value=-1),
        edited("merged", value=10**6),
        edited("salt", value=-1),
        edited("score", "began", 0, 0, value=10**6),
        edited("reference", "sums", 0, 0, value=1 << 62),
        edited("layer_reference", "seen", 1, value=10**6),
        edited("settings", "alpha", value=[0.01]),
    ],
)
def test_a_state_edited_by_hand_is_refused(edit: Callable[[Any], None]) -> None:
    monitor = Monitor(99, alpha=0.01, layers=LAYERS)
    monitor.update_many(np.full(30, 0.01), layers=np.full((30, 2), 0.01))
    assert monitor.alarm is not None
    state = json.loads(json.dumps(monitor.state_dict()))
    other = Monitor(99, alpha=0.01, layers=LAYERS)
    other.load_state_dict(state)
    assert other.alarm == monitor.alarm
    edit(state)
    with pytest.raises((ArtifactError, InputError), match="state: "):
        other.load_state_dict(state)
    assert other.state_dict() == monitor.state_dict()


def test_classes_together_have_no_more_inputs_than_there_were() -> None:
    monitor = Monitor({0: 9, 1: 9}, alpha=0.05)
    monitor.update_many(np.full(8, 0.5), predicted=[0, 1] * 4)
    state = json.loads(json.dumps(monitor.state_dict()))
    state["reference"]["seen"] = [18, 18]
    with pytest.raises(ArtifactError, match="seen"):
        monitor.load_state_dict(state)


@pytest.mark.parametrize("state", [None, 3, [], {}, {"format": 3}, {"settings": {}}])
def test_what_is_no_state_is_told(state: object) -> None:
    with pytest.raises((ArtifactError, InputError), match="state: is"):
        Monitor(9, alpha=0.05).load_state_dict(state)


def test_a_state_without_a_promise_is_told() -> None:
    state = Monitor(9, alpha=0.05).state_dict()
    state["settings"]["alpha"] = None
    with pytest.raises(
        InputError, match=r"found neither alpha nor run_length, allowed: alpha 0.05"
    ):
        Monitor(9, alpha=0.05).load_state_dict(state)


@pytest.mark.parametrize(
    ("counts", "alpha", "expected"),
    [(dict.fromkeys(range(10), 2), 0.01, 10), (dict.fromkeys(range(10), 2), 0.001, 14),
     (dict.fromkeys(range(20), 3), 1e-5, 16), (dict.fromkeys(range(10), 100), 1e-9, 10)],
)  # fmt: skip
def test_the_quickest_alarm_may_go_round_the_classes(
    counts: dict[int, int], alpha: float, expected: int
) -> None:
    monitor = Monitor(counts, alpha=alpha)
    assert monitor.quickest <= expected
    alarms, i = None, 0
    while alarms is None:
        alarms = monitor.update(1 / (counts[0] + 1), predicted=i % len(counts))
        i += 1
    assert i >= monitor.quickest


def test_the_price_of_all_ranks_is_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Monitor(54_321)

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr("nervecode.monitor.reference.prices", never)
    monkeypatch.setattr("nervecode.monitor.quickest.StreamState", never)
    assert Monitor(54_321).quickest > 0
