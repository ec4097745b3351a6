"""Streams of several workers, merged again and again: every input counts once."""

import copy

import numpy as np
import pytest

from nervecode.errors import InputError
from nervecode.monitor import Monitor

N = 99


def hour(monitor: Monitor, seed: int, length: int = 100) -> None:
    monitor.update_many(np.random.default_rng(seed).integers(1, N + 2, length) / (N + 1))


def test_merging_every_hour_counts_every_input_once() -> None:
    shared, whole = Monitor(N, run_length=1e6), Monitor(N, run_length=1e6)
    for start in range(0, 36, 3):
        workers = [copy.deepcopy(shared) for _ in range(3)]
        for i, worker in enumerate(workers):
            hour(worker, start + i)
            hour(whole, start + i)
        workers[0].merge(workers[1:], base=shared)
        shared = workers[0]
    assert shared.inputs == whole.inputs == 3600
    assert (shared._stream.reference.sums == whole._stream.reference.sums).all()


def test_a_monitor_that_was_merged_before_needs_a_base() -> None:
    workers = [Monitor(N) for _ in range(3)]
    for i, worker in enumerate(workers):
        hour(worker, i)
    workers[0].merge(iter(workers[1:]))
    saved = Monitor(N)
    saved.load_state_dict(workers[0].state_dict())
    for monitor in (workers[0], saved):
        with pytest.raises(InputError, match=r"was merged before, at 300 inputs, .*allowed: base"):
            monitor.merge(workers[1:])
        with pytest.raises(InputError, match="was merged before"):
            workers[1].merge([monitor])
        assert monitor.inputs == 300 and workers[1].inputs == 100


def test_an_alarm_is_numbered_as_all_streams_are() -> None:
    first, second = Monitor(N, alpha=0.01), Monitor(N, alpha=0.01)
    hour(first, 0)
    hour(second, 1, 50)
    second.update_many(np.full(20, 0.01))
    alarm = second.alarm
    assert alarm is not None and 50 < alarm.input <= 70 and first.alarm is None
    first.merge([second])
    assert first.inputs == 170 and first.alarm is not None
    assert 170 - first.alarm.input == 70 - alarm.input
    assert 170 - first.alarm.since == 70 - alarm.since


def test_what_is_no_list_of_monitors_is_told() -> None:
    monitor = Monitor(N)
    for others in (Monitor(N), None, "ab", 3):
        with pytest.raises(InputError, match=r"merge: found .*, allowed: a list of monitors"):
            monitor.merge(others)  # type: ignore[arg-type]
