"""What a caller of any library may give, and what is told of the rest: nothing is changed."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nervecode.errors import InputError
from nervecode.monitor import ClassRanks, LayerRanks, Monitor

PREDICTED = np.array([0, 1, 1, 2] * 20)


def same(monitor: Monitor) -> tuple[object, ...]:
    return monitor.inputs, monitor.log10_evidence, str(monitor.state_dict())


@pytest.mark.parametrize(
    "behind",
    [
        dict(enumerate(np.bincount(PREDICTED))),
        Counter(PREDICTED),
        dict(zip(*np.unique(PREDICTED, return_counts=True), strict=True)),
        ClassRanks(np.arange(80.0), PREDICTED, classes=list(np.unique(PREDICTED))).counts,
        {np.str_("a"): np.int32(40), "b": np.arange(40.0)},
    ],
)
def test_counts_as_numpy_gives_them_are_saved_and_loaded(behind: Any, tmp_path: Path) -> None:
    first, second = (Monitor(behind, alpha=np.float32(0.05)) for _ in range(2))
    label = next(iter(behind))
    first.update(1.0, predicted=label)
    first.save(tmp_path / "state.json")
    second.load(tmp_path / "state.json")
    assert second.log10_evidence == first.log10_evidence and second.inputs == 1
    first = Monitor(100, run_length=np.int64(1000))  # type: ignore[arg-type]
    first.save(tmp_path / "state.json")
    Monitor(100, run_length=1000).load(tmp_path / "state.json")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_calibration": {(0, 1): 50}}, r"class: found \(0, 1\), allowed: a whole number or"),
        ({"n_calibration": {1.0: 50}}, "class: found 1.0"),
        ({"n_calibration": {None: 50}}, "class: found None"),
        ({"n_calibration": {True: 50}}, "class: found True"),
        ({"n_calibration": {torch.tensor(1): 5, torch.tensor(1): 6}}, "n_calibration: found {"),
        ({"n_calibration": 99, "calibration": Path("x")}, "calibration: found .*allowed: a text"),
        ({"n_calibration": 99, "calibration": b"x"}, "calibration: found b'x', allowed: a text"),
        ({"n_calibration": 99, "run_length": 10**400}, "run_length: found a huge number"),
    ],
)
def test_settings_that_no_state_could_hold_are_refused(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        Monitor(**arguments)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ({"a": 0.5, "b": [0.5, 0.5]}, r"layers\['b'\]: found shape \(2,\), allowed: \(\)"),
        ({"a": 0.5}, "layers: 'b' is missing, allowed: a p-value of each layer"),
        ({"a": 0.5, "b": 0.5, "bb": 1}, "layers: found 'bb'; did you mean 'b'"),
        ({"a": 0.5, "b": 0.5, 3: 1}, "layers: found 3; Allowed: a, b"),
        ([0.5, True], r"layers: found \[0.5, True\], allowed: numbers"),
        ({"a": 0.5, "b": True}, r"layers\['b'\]: found True, allowed: numbers"),
    ],
)
def test_layers_that_do_not_fit_are_told(layers: Any, message: str) -> None:
    monitor = Monitor(9, layers=("a", "b"))
    before = same(monitor)
    with pytest.raises(InputError, match=message):
        monitor.update(0.5, layers=layers)
    assert same(monitor) == before


def test_columns_of_two_lengths_are_told() -> None:
    monitor = Monitor(9, layers=("a", "b"))
    with pytest.raises(InputError, match=r"layers\['b'\]: found shape \(1,\), allowed: \(2,\)"):
        monitor.update_many([0.5, 0.5], layers={"a": [0.5, 0.5], "b": [0.5]})  # type: ignore[arg-type,dict-item]
    with pytest.raises(InputError, match=r"layers: found .*, allowed: numbers"):
        monitor.update_many([0.5, 0.5], layers=[[0.5, 1], [True, 0.5]])  # type: ignore[arg-type]


def test_one_class_of_any_library_is_taken_and_nothing_else() -> None:
    plain, other = (Monitor({0: 9, 1: 9, "c": 9}, alpha=0.05) for _ in range(2))
    for value in (np.array(1), torch.tensor(1), np.int64(1), 1):
        plain.update(0.5, predicted=1)
        other.update(0.5, predicted=value)  # type: ignore[arg-type]
    assert same(plain) == same(other)
    for bad, message in [
        ([1], r"found \[1\], allowed: a whole number or a text"),
        ({}, "found {}, allowed"),
        (torch.tensor([0, 1]), "found tensor"),
        (True, "found True"),
        ("1", "found '1'; allowed: 1, a whole number"),
        ("d", "found 'd'; "),
        (None, "found None, allowed: a class"),
    ]:
        with pytest.raises(InputError, match=f"predicted: {message}"):
            other.update(0.5, predicted=bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="found 1; allowed: '1', a text"):
        Monitor({"1": 9}, alpha=0.5).update(0.5, predicted=1)
    assert same(plain) == same(other)


def test_classes_of_many_keep_their_kinds() -> None:
    single, many = (Monitor({0: 9, "c": 9}, alpha=0.05) for _ in range(2))
    single.update(0.5, predicted=0)
    single.update(0.5, predicted="c")
    many.update_many([0.5, 0.5], predicted=[0, "c"])  # type: ignore[arg-type]
    assert many.log10_evidence == pytest.approx(single.log10_evidence, abs=1e-12)
    for bad, message in [
        ([[0], [0]], r"predicted\[0\]: found \[0\]"),
        ([0, [0]], r"predicted\[1\]: found \[0\]"),
        ("cc", "predicted: found 'cc', allowed: a class for each"),
        (3, "predicted: found 3, allowed: a class for each"),
        ([0], "predicted: found 1 for 2 p-values"),
    ]:
        with pytest.raises(InputError, match=message):
            many.update_many([0.5, 0.5], predicted=bad)  # type: ignore[arg-type]
    assert many.inputs == 2


def test_huge_and_masked_numbers_are_told() -> None:
    monitor = Monitor(9)
    calls: list[Callable[[], object]] = [
        lambda: monitor.update(10**400),
        lambda: monitor.update(np.ma.masked),
        lambda: monitor.update(np.ma.array(0.5, mask=True)),
        lambda: monitor.update_many([10**400]),  # type: ignore[arg-type]
        lambda: monitor.update_many(np.ma.array([0.5, 0.5], mask=[False, True])),
    ]
    for call in calls:
        with pytest.raises(InputError, match=r"found .*, allowed: (a number|numbers)"):
            call()
    monitor.update_many(np.ma.array([0.5, 0.5], mask=[False, False]))
    assert monitor.inputs == 2


def test_what_weighs_inputs_is_told_to_be_the_cause() -> None:
    with pytest.raises(InputError, match="multiples of 1/901, none by importance weights"):
        Monitor(900).update(0.01234)


def test_ranks_of_what_is_no_score_or_class_are_told() -> None:
    ranks, layers = ClassRanks([1.0, 2.0], [0, 1]), LayerRanks({"a": np.arange(9.0)})  # type: ignore[arg-type]
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: ranks.p_value(1.0, [0]), r"predicted: found \[0\]"),  # type: ignore[arg-type]
        (lambda: ClassRanks(["a", "b"], [0, 1]), "scores: found .*, allowed: numbers"),  # type: ignore[arg-type]
        (lambda: ClassRanks([1.0, 2.0], [[0], [1]]), r"predicted: found \[0\]"),  # type: ignore[arg-type]
        (lambda: ClassRanks([1.0], [0], classes=3), "classes: found 3"),  # type: ignore[arg-type]
        (lambda: layers.p_values([1.0], -1), "number: found -1, allowed: 0, 1"),
        (lambda: layers.p_values([1.0], 1.5), "number: found 1.5"),  # type: ignore[arg-type]
        (lambda: layers.p_values(["x"], 1), r"layers: found \['x'\], allowed: numbers"),  # type: ignore[list-item]
        (lambda: LayerRanks({"a": ["x"]}), "layers: a: found .*, allowed: numbers"),
        (lambda: LayerRanks({"a": [1.0], "b": [1.0, 2.0]}), r"found shapes \(1,\), \(2,\)"),
        (lambda: LayerRanks({"a": [1.0]}, seed=-1), "seed: found -1"),
    ]
    for call, message in calls:
        with pytest.raises(InputError, match=message):
            call()
