"""The monitor: its two paths, its alarms, its state, its complaints."""

import json
from collections.abc import Callable
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nervecode.errors import ArtifactError, InputError
from nervecode.monitor import ClassRanks, LayerRanks, Monitor
from tests.monitor.edits import edited

LAYERS = ("stem", "body", "head")
N = 200


def stream(seed: int = 0, length: int = 300, change: int | None = None) -> np.ndarray:
    """p-values of a stream; from `change` on, most inputs surprise more."""
    rng = np.random.default_rng(seed)
    calibration, scores = np.sort(rng.normal(size=N)), rng.normal(size=length)
    if change is not None:
        scores[change:] += 2
    return (1 + N - np.searchsorted(calibration, scores)) / (N + 1)


def by_layer(length: int = 300, change: int | None = None) -> np.ndarray:
    """(length, 3) p-values; the change is in the second layer."""
    return np.stack([stream(1, length), stream(2, length, change), stream(3, length)], axis=1)


def twins(**options: object) -> tuple[Monitor, Monitor]:
    return Monitor(N, **options), Monitor(N, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("promise", [{"alpha": 0.01}, {"run_length": 1000}])
@pytest.mark.parametrize("change", [None, 150])
def test_one_by_one_and_all_at_once_agree(promise: dict[str, float], change: int | None) -> None:
    single, many = twins(layers=LAYERS, **promise)
    p, layers = stream(change=change), by_layer(change=change)
    evidence = []
    for value, row in zip(p, layers, strict=True):
        single.update(float(value), layers=row)
        evidence.append(single.log10_evidence)
    found = np.concatenate(
        [
            many.update_many(p[:100], layers=layers[:100]),
            many.update_many(p[100:], layers=layers[100:]),
        ]
    )
    np.testing.assert_allclose(found, evidence, atol=1e-9)
    assert many.layers == pytest.approx(single.layers, abs=1e-9)
    assert (many.alarm is None) == (single.alarm is None) == (change is None)
    if single.alarm is not None and many.alarm is not None:
        one, other = asdict(single.alarm), asdict(many.alarm)
        assert one.pop("log10_evidence") == pytest.approx(other.pop("log10_evidence"), abs=1e-9)
        assert one == other


def test_classes_one_by_one_and_all_at_once_agree() -> None:
    counts = {0: 60, 1: 90, "rest": 50}
    single, many = Monitor(counts, run_length=500), Monitor(counts, run_length=500)
    rng = np.random.default_rng(0)
    labels = [list(counts)[i] for i in rng.integers(0, 3, 400)]
    p = [rng.integers(1, counts[y] + 2) / (counts[y] + 1) for y in labels]
    p[200:] = [1 / 61 if y == 0 else x for x, y in zip(p[200:], labels[200:], strict=True)]
    evidence = []
    for x, y in zip(p, labels, strict=True):
        single.update(x, predicted=y)
        evidence.append(single.log10_evidence)
    found = many.update_many(np.array(p), predicted=np.array(labels, dtype=object))
    np.testing.assert_allclose(found, evidence, atol=1e-9)
    assert single.alarm is not None and many.alarm is not None
    assert single.alarm.predicted == 0 and 200 < single.alarm.input < 215
    assert many.alarm.input == single.alarm.input


def test_an_alarm_says_since_when_how_and_where() -> None:
    monitor = Monitor(N, run_length=10_000, layers=LAYERS)
    monitor.update_many(stream(4, 1000, 700), layers=by_layer(1000, 700))
    alarm = monitor.alarm
    assert alarm is not None
    assert 700 < alarm.input < 760 and 680 < alarm.since < 720
    assert alarm.log10_evidence >= monitor.log10_threshold == pytest.approx(4)
    assert monitor.named_layers == ("body",)
    assert str(alarm).startswith(f"alarm at input {alarm.input}: since about input {alarm.since},")


def test_an_alarm_latches_until_restart() -> None:
    monitor = Monitor(N, alpha=0.01)
    alarms = [monitor.update(1 / (N + 1)) for _ in range(30)]
    raised = [alarm for alarm in alarms if alarm is not None]
    assert len(raised) == 1 and monitor.alarm == raised[0]
    assert raised[0].input == monitor.quickest
    monitor.restart()
    assert monitor.alarm is None and monitor.inputs == 30 and monitor.log10_evidence == 0
    again = next(alarm for alarm in (monitor.update(1 / (N + 1)) for _ in range(30)) if alarm)
    assert again.input > 30 + monitor.quickest  # the reference holds 30 such inputs
    monitor.restart(forget=True)
    inputs = monitor.inputs
    while monitor.update(1 / (N + 1)) is None:
        pass
    assert monitor.inputs == inputs + monitor.quickest


def test_less_surprise_and_less_spread_are_changes_too() -> None:
    still = Monitor(N, alpha=0.01)
    still.update_many(np.full(500, 150 / (N + 1)))  # a camera that hangs
    assert still.alarm is not None
    fallen = Monitor(N, alpha=0.01)
    rng = np.random.default_rng(0)
    fallen.update_many(rng.integers(140, N + 2, 500) / (N + 1))
    assert fallen.alarm is not None and fallen.alarm.kind == "fall"


def test_saved_and_loaded_it_goes_on_the_same(tmp_path: Path) -> None:
    first, second = twins(run_length=500, layers=LAYERS, calibration="abc")
    p, layers = stream(change=120), by_layer(change=120)
    whole = first.update_many(p, layers=layers)
    half = second.update_many(p[:140], layers=layers[:140])
    second.save(tmp_path / "state.json")
    third = Monitor(N, run_length=500, layers=LAYERS, calibration="abc")
    third.load(tmp_path / "state.json")
    rest = third.update_many(p[140:], layers=layers[140:])
    np.testing.assert_allclose(np.concatenate([half, rest]), whole, atol=1e-12)
    assert third.alarm == first.alarm and third.inputs == 300
    assert "NaN" not in (text := (tmp_path / "state.json").read_text()) and "Infinity" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"run_length": 600}, r"state.json: run_length: found 500, allowed: 600"),
        ({"run_length": 500, "calibration": "x"}, r"calibration: found abc, allowed: x"),
        ({"run_length": 500, "layers": ("stem",)}, r"layers: found \[\], allowed: \['stem'\]"),
        ({"alpha": 0.05}, r"found run_length 500, allowed: alpha 0.05"),
    ],
)
def test_a_state_of_other_settings_is_refused(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    monitor = Monitor(N, run_length=500, calibration="abc")
    monitor.update_many(stream())
    monitor.save(tmp_path / "state.json")
    other = Monitor(N, **options)  # type: ignore[arg-type]
    before = other.log10_evidence
    with pytest.raises(InputError, match=message):
        other.load(tmp_path / "state.json")
    assert other.inputs == 0 and other.log10_evidence == before


def test_a_state_of_another_calibration_size_is_refused(tmp_path: Path) -> None:
    Monitor(300).save(tmp_path / "state.json")
    with pytest.raises(InputError, match="n_calibration: found 300, allowed: 200"):
        Monitor(200).load(tmp_path / "state.json")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda state: state.pop("score"),
        lambda state: state["score"]["wealth"][0].pop(),
        lambda state: state["score"].update(gain=[["x"] * 11]),
        lambda state: state.update(inputs="many"),
        lambda state: state.update(alarm={"input": 1}),
    ],
)
def test_a_damaged_state_is_refused(spoil: object, tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Monitor(N).save(path)
    state = json.loads(path.read_text())
    spoil(state)  # type: ignore[operator]
    path.write_text(json.dumps(state))
    monitor = Monitor(N)
    monitor.update(0.5 * 202 / 201)
    with pytest.raises(ArtifactError, match="damaged"):
        monitor.load(path)
    assert monitor.inputs == 1
    path.write_text("{")
    with pytest.raises(ArtifactError, match="damaged"):
        monitor.load(path)
    with pytest.raises(ArtifactError, match="is missing"):
        monitor.load(tmp_path / "none.json")


def test_another_version_of_the_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    Monitor(N).save(path)
    path.write_text(path.read_text().replace('"burst"', '"boom"'))
    with pytest.raises(InputError, match="of another version"):
        Monitor(N).load(path)


def test_merged_references_add_and_evidence_is_the_mean() -> None:
    whole = Monitor(N, run_length=1e6)
    workers = [Monitor(N, run_length=1e6) for _ in range(3)]
    streams = [stream(seed, 100, 60 if seed == 2 else None) for seed in range(3)]
    for worker, p in zip(workers, streams, strict=True):
        worker.update_many(p)
        whole.update_many(p)
    mean = np.mean([10**worker.log10_evidence for worker in workers])
    workers[0].merge(workers[1:])
    assert workers[0].log10_evidence == pytest.approx(np.log10(mean))
    assert workers[0].inputs == 300
    ours, theirs = workers[0]._stream.reference, whole._stream.reference
    assert (ours.sums == theirs.sums).all() and (ours.seen == theirs.seen).all()
    assert 300 - workers[0]._stream.raise_alarm().since < 45


def test_merged_copies_of_one_monitor_count_what_they_share_once() -> None:
    base, *workers = (Monitor(N, alpha=0.01) for _ in range(3))
    for monitor in (base, *workers):
        monitor.update_many(stream(0, 50))
    workers[0].update_many(stream(1, 40))
    workers[1].update_many(stream(2, 30))
    whole = Monitor(N, alpha=0.01)
    whole.update_many(np.concatenate([stream(0, 50), stream(1, 40), stream(2, 30)]))
    workers[0].merge(workers[1:], base=base)
    assert workers[0].inputs == 120
    ours, theirs = workers[0]._stream.reference, whole._stream.reference
    assert (ours.sums == theirs.sums).all() and (ours.seen == theirs.seen).all()


def test_a_merged_alarm_stays_and_other_settings_do_not_merge() -> None:
    calm, alarmed = twins(alpha=0.01)
    alarmed.update_many(np.full(20, 1 / (N + 1)))
    calm.merge([alarmed])
    assert calm.alarm == alarmed.alarm
    with pytest.raises(InputError, match=r"merge: monitor 1: found .*alpha=0.02"):
        calm.merge([alarmed, Monitor(N, alpha=0.02)])
    assert calm.inputs == 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"p_value": 0.0}, r"p_value: found 0.0, allowed: 0 < p <= 1"),
        ({"p_value": 1.5}, r"p_value: found 1.5"),
        ({"p_value": float("nan")}, r"p_value: found nan"),
        ({"p_value": 1.5 / 201}, "which 200 calibration inputs never give, .*multiples of 1/201"),
        ({"p_value": 0.1 / 201}, "never give"),
        ({"p_value": 1.0}, r"layers: found shape \(0,\), allowed: \(3,\), .*stem, body, head"),
        ({"p_value": 1.0, "layers": [1, 1]}, r"layers: found shape \(2,\)"),
        ({"p_value": 1.0, "layers": [1, 0.0, 1]}, r"layers\[1\]: found 0.0"),
        ({"p_value": 1.0, "layers": {"stem": 1, "body": 1}}, r"layers: 'head' is missing"),
        ({"p_value": 1.0, "layers": [1, 1, 1], "predicted": 3}, "predicted: found 3, but"),
    ],
)
def test_bad_input_is_told_and_changes_nothing(arguments: dict[str, object], message: str) -> None:
    monitor = Monitor(N, layers=LAYERS)
    monitor.update_many(stream(), layers=by_layer())
    before = monitor.log10_evidence, monitor.layers, monitor.inputs
    with pytest.raises(InputError, match=message):
        monitor.update(**arguments)  # type: ignore[arg-type]
    p, *others = arguments.values()
    many = dict(zip(list(arguments)[1:], ([other] for other in others), strict=True))
    if isinstance(arguments.get("layers"), dict):
        many["layers"] = {name: [value] for name, value in arguments["layers"].items()}  # type: ignore[attr-defined]
    with pytest.raises(InputError):
        monitor.update_many(np.array([p]), **many)  # type: ignore[arg-type]
    assert (monitor.log10_evidence, monitor.layers, monitor.inputs) == before


def test_the_first_bad_value_of_many_is_named() -> None:
    with pytest.raises(InputError, match=r"p_value\[2\]: found nan"):
        Monitor(N).update_many(np.array([1.0, 1.0, np.nan, 2.0]))
    with pytest.raises(InputError, match=r"layers\[0\]\[1\]: found -1.0"):
        Monitor(N, layers=("a", "b")).update_many(np.ones(1), layers=np.array([[1.0, -1.0]]))
    with pytest.raises(InputError, match=r"p_values: found shape \(1, 1\)"):
        Monitor(N).update_many(np.ones((1, 1)))


def test_unknown_and_missing_classes_are_told() -> None:
    monitor = Monitor({0: 10, 1: 12}, alpha=0.05)
    with pytest.raises(InputError, match="predicted: found 2; Allowed: 0, 1"):
        monitor.update(1.0, predicted=2)
    with pytest.raises(InputError, match="predicted: found None"):
        monitor.update(1.0)
    with pytest.raises(InputError, match="a class for each p-value"):
        monitor.update_many(np.ones(2), predicted=[0])
    assert monitor.inputs == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_calibration": 0}, "n_calibration: found 0"),
        ({"n_calibration": -5}, "n_calibration: found -5"),
        ({"n_calibration": 2.5}, "n_calibration: found 2.5"),
        ({"n_calibration": {}}, "n_calibration: found {}"),
        ({"n_calibration": 9, "alpha": 0.0}, "alpha: found 0.0, allowed: 0 < alpha < 1"),
        ({"n_calibration": 9, "alpha": float("nan")}, "alpha: found nan"),
        ({"n_calibration": 9, "run_length": 1}, "run_length: found 1"),
        ({"n_calibration": 9, "run_length": float("inf")}, "run_length: found inf"),
        ({"n_calibration": 9, "run_length": 9, "alpha": 0.1}, "found both"),
        ({"n_calibration": 9, "layers": ("a", "a")}, "a name twice in a, a"),
        ({"n_calibration": 1, "alpha": 1e-9}, "alpha: found 1e-09, which 1 calibration inputs"),
        ({"n_calibration": 2, "run_length": 1e12}, "run_length: found 1e.12, which 2 calibration"),
    ],
)
def test_settings_that_make_no_sense_are_told(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Monitor(**arguments)  # type: ignore[arg-type]


def test_a_promise_and_names_of_another_kind_are_told() -> None:
    for arguments, message in [
        ({"alpha": "0.1"}, "alpha: found '0.1', allowed: a number"),
        ({"run_length": True}, "run_length: found True, allowed: a number"),
        ({"layers": "ab"}, "layers: found 'ab', allowed: a list of names"),
        ({"layers": 5}, "layers: found 5, allowed: a list of names"),
        ({"layers": [1, 2]}, r"layers: found \[1, 2\], allowed: names"),
    ]:
        with pytest.raises(InputError, match=message):
            Monitor(100, **arguments)  # type: ignore[arg-type]


def test_one_number_of_any_library_is_taken_and_nothing_else() -> None:
    plain, other = twins(run_length=100)
    values = [Fraction(100, 201), *map(np.float32, [100 / 201]), np.array(100 / 201)]
    values += [np.array([100 / 201]), torch.tensor(100 / 201), torch.tensor([100 / 201])]
    for value in values:
        plain.update(100 / 201)
        other.update(value)
    assert other.log10_evidence == plain.log10_evidence
    for bad in ("0.5", None, True, np.True_, np.array([0.5, 0.5]), torch.ones(2), [0.5]):
        with pytest.raises(InputError, match=r"p_value: found .*, allowed: a number"):
            other.update(bad)  # type: ignore[arg-type]
    for many in (["0.5"], [None], [True]):
        with pytest.raises(InputError, match=r"p_values: found .*, allowed: numbers"):
            other.update_many(many)  # type: ignore[arg-type]
    assert other.inputs == len(values)


def test_p_values_that_look_rounded_are_told_so() -> None:
    with pytest.raises(InputError, match="looks rounded to 3 digits: give p-values with all"):
        Monitor(1000).update(0.123)
    with pytest.raises(InputError, match=r"multiples of 1/1001, none by importance weights$"):
        Monitor(1000).update(0.123456789)


@pytest.mark.parametrize("promise", [{"alpha": 0.01}, {"run_length": 100}])
def test_there_is_no_evidence_before_the_first_input(promise: dict[str, float]) -> None:
    monitor = Monitor(N, layers=LAYERS, **promise)  # type: ignore[arg-type]
    for _ in range(2):
        assert monitor.log10_evidence == 0.0 and set(monitor.layers.values()) == {0.0}
        monitor.update(1.0, layers=[1.0] * len(LAYERS))
        assert -3 < monitor.log10_evidence < 0
        monitor.restart()


@pytest.mark.parametrize(
    "edit",
    [
        edited("inputs", value=-1),
        edited("inputs", value=True),
        edited("inputs", value=3.5),
        edited("restarted", value=51),
        edited("reference", "sums", 0, 0, value=-1),
        edited("reference", "sums", 0, 0, value=1),
        edited("reference", "sums", 0, 0, value=1.5),
        edited("reference", "seen", 0, value=-7),
        edited("reference", "seen", 0, value=10**9),
        edited("score", "wealth", 0, 0, value=1e308),
        edited("score", "wealth", 0, 0, value=-1e308),
        edited("score", "wealth", 0, 0, value="x"),
        edited("score", "means", 0, value=-1e300),
        edited("score", "gain", 0, 0, value=1e308),
        edited("score", "began", 0, 0, value=-3),
    ],
)
def test_a_state_that_no_stream_has_is_refused(edit: Callable[[Any], None]) -> None:
    monitor = Monitor(N, alpha=0.01)
    monitor.update_many(stream(0, 50))
    state = json.loads(json.dumps(monitor.state_dict()))
    Monitor(N, alpha=0.01).load_state_dict(state)
    edit(state)
    with pytest.raises(ArtifactError, match="is damaged"):
        monitor.load_state_dict(state)
    assert monitor.inputs == 50 and np.isfinite(monitor.log10_evidence)


def test_what_cannot_be_merged_is_told() -> None:
    first, second = twins(alpha=0.01)
    base = Monitor(N, alpha=0.01)
    first.update_many(stream(0, 20))
    second.update_many(stream(1, 20))
    base.update_many(stream(2, 10))
    for others, start, message in [
        ([first], None, "found a monitor twice"),
        ([second, second], None, "found a monitor twice"),
        ([Monitor(N, alpha=0.01)], base, "found a monitor of 0 inputs that are not those of base"),
        ([3], None, "monitor 0: found 3, allowed: a Monitor"),
        ([second], "b", "base: found 'b', allowed: a Monitor"),
    ]:
        with pytest.raises(InputError, match=f"merge: {message}"):
            first.merge(others, base=start)  # type: ignore[arg-type]
        assert first.inputs == 20


def test_p_values_may_have_been_rounded_to_float32() -> None:
    monitor, other = Monitor(10_000), Monitor(10_000)
    p = np.random.default_rng(0).integers(1, 10_002, 100) / 10_001
    monitor.update_many(p)
    other.update_many(p.astype(np.float32))
    assert other.log10_evidence == monitor.log10_evidence


def test_ranks_within_a_class_follow_from_those_among_all() -> None:
    rng = np.random.default_rng(0)
    scores, classes = rng.normal(size=90).round(1), rng.integers(0, 3, 90)  # with ties
    ranks = ClassRanks(scores, classes, classes=[0, 1, 2, 3])
    assert ranks.counts == {**{c: int((classes == c).sum()) for c in range(3)}, 3: 0}
    for score in rng.normal(size=50).round(1):
        pooled = (1 + (scores >= score).sum()) / 91
        for c in range(4):
            own = scores[classes == c]
            assert ranks.p_value(pooled, c) == (1 + (own >= score).sum()) / (len(own) + 1)
    with pytest.raises(InputError, match="predicted: found 9"):
        ranks.p_value(1.0, 9)
    for p, message in ((float("nan"), "found nan"), (0.123456, "never give"), (0.0, "0 < p <= 1")):
        with pytest.raises(InputError, match=message):
            ranks.p_value(p, 0)
    with pytest.raises(InputError, match=r"allowed: \(n,\)"):
        ClassRanks(scores, classes[:5])
    with pytest.raises(InputError, match="NaN"):
        ClassRanks(np.array([np.nan]), np.array([0]))


@pytest.mark.slow
def test_ranks_of_layers_are_uniform_though_most_inputs_tie() -> None:
    rng = np.random.default_rng(0)
    p = []
    for number in range(3000):
        scores = np.maximum(rng.normal(size=(10, 2)), 0)  # half are 0
        ranks = LayerRanks({"a": scores[:9, 0], "b": scores[:9, 1]}, seed=number)
        p.append(ranks.p_values(scores[9].tolist(), number))
        assert (p[-1] == ranks.p_values(scores[9].tolist(), number)).all()
    counts = np.stack([np.bincount(np.rint(np.array(p)[:, i] * 10).astype(int)) for i in (0, 1)])
    assert counts.shape == (2, 11) and (counts[:, 0] == 0).all()
    assert (abs(counts[:, 1:] - 300) < 4 * np.sqrt(300 * 0.9)).all()


def test_a_layer_without_ties_has_its_conformal_p_value() -> None:
    values = np.arange(9.0)
    ranks = LayerRanks({"a": values})
    for score in (-1.0, 2.5, 9.0):
        assert ranks.p_values([score], 0)[0] == (1 + (values >= score).sum()) / 10
    assert ranks.p_values([float("nan")], 0)[0] == 1 / 10
    with pytest.raises(InputError, match=r"layers: found \[1.0, 2.0\], allowed: 1 numbers"):
        ranks.p_values([1.0, 2.0], 0)
    with pytest.raises(InputError, match="calibration layers"):
        LayerRanks({})
