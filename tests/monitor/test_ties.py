"""Equal scores: ranks with ties broken at random follow the urn, and the monitor keeps its word."""

import copy
import json
from collections.abc import Callable

import numpy as np
import pytest

from nervecode.errors import InputError
from nervecode.monitor import ClassRanks, LayerRanks, Monitor
from nervecode.monitor.ties import TieBreaker, ties_among, uniform

Draw = Callable[[np.random.Generator, int], np.ndarray]
SCORES: dict[str, Draw] = {
    "four values": lambda rng, n: rng.integers(0, 4, n).astype(float),
    "half at the bottom": lambda rng, n: np.maximum(rng.normal(size=n), 0),
    "half at the top": lambda rng, n: np.minimum(rng.normal(size=n), 0),
    "a third in the middle": lambda rng, n: (x := rng.normal(size=n)) * (abs(x) > 0.5),
    "rare": lambda rng, n: (rng.random(n) < 0.02).astype(float),
    "rounded": lambda rng, n: rng.normal(size=n).round(1),
}


def p_values(calibration: np.ndarray, scores: np.ndarray) -> np.ndarray:
    n = len(calibration)
    return (1 + n - np.searchsorted(np.sort(calibration), scores)) / (n + 1)


def false_alarms(draw: Draw, n: int, *, told: bool, streams: int = 60, length: int = 800) -> float:
    """The share of streams without a change that raise an alarm at alpha = 0.05."""
    rng, alarms = np.random.default_rng(n), 0
    for _ in range(streams):
        calibration = draw(rng, n)
        monitor = Monitor(calibration if told else n, alpha=0.05)
        monitor.update_many(p_values(calibration, draw(rng, length)))
        alarms += monitor.alarm is not None
    return alarms / streams


@pytest.mark.slow
@pytest.mark.parametrize("name", SCORES)
def test_a_monitor_that_knows_the_ties_keeps_its_promise(name: str) -> None:
    assert false_alarms(SCORES[name], 100, told=True) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 60)


def test_one_that_was_told_n_alone_takes_ties_for_a_change() -> None:
    assert false_alarms(SCORES["half at the bottom"], 100, told=False) > 0.9


@pytest.mark.slow
@pytest.mark.parametrize("n", [20, 100, 1000])
@pytest.mark.parametrize("name", SCORES)
def test_over_four_hundred_streams(name: str, n: int) -> None:
    share = false_alarms(SCORES[name], n, told=True, streams=400, length=4000)
    assert share <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_a_change_of_a_tied_score_is_seen() -> None:
    rng = np.random.default_rng(0)
    calibration = SCORES["four values"](rng, 500)
    monitor = Monitor(calibration, alpha=0.01)
    stream = np.concatenate([rng.integers(0, 4, 300), rng.integers(2, 4, 100)]).astype(float)
    monitor.update_many(p_values(calibration, stream))
    assert monitor.alarm is not None and 300 < monitor.alarm.input < 380


def test_ties_among_scores_against_counting() -> None:
    scores = np.random.default_rng(0).integers(0, 30, 50).astype(float)
    expected = [
        (1 + int((scores >= v).sum()), int((scores == v).sum()))
        for v in sorted(set(scores.tolist()), reverse=True)
        if (scores == v).sum() > 1
    ]
    assert list(ties_among(scores)) == expected
    assert ties_among(np.arange(5.0)) == ()


def test_each_calibration_set_has_draws_of_its_own() -> None:
    """Draws that were the same for all sets could be unlucky for all of them."""
    first, second = np.repeat([0.0, 1.0], 50), np.repeat([0.0, 2.0], 50)
    monitors = [Monitor(scores) for scores in (first, second, first[::-1])]
    p = [m._ranks.many(np.ones(500), None, None, number=1, salt=0).p for m in monitors]
    assert (p[0] == p[1]).mean() < 0.1 and (p[0] == p[2]).all()
    layers = [LayerRanks({"a": scores}) for scores in (first, second)]
    equal = [layers[0].p_values([0.0], i) == layers[1].p_values([0.0], i) for i in range(200)]
    assert np.mean(equal) < 0.1


def test_broken_ties_follow_the_urn() -> None:
    """Two inputs after three calibration inputs, all equal: equal ranks as Polya has it, 2/5."""
    equal, ranks = 0, np.zeros(4)
    for start in range(4000):
        breaker = TieBreaker((((4, 3),),), np.array([3]), seed=1000 * start)
        first, second = (breaker.one(4, 0, number, 0) for number in (1, 2))
        equal += first == second
        ranks[first - 1] += 1
    assert equal / 4000 == pytest.approx(2 / 5, abs=4 * np.sqrt(0.24 / 4000))
    assert (abs(ranks - 1000) < 4 * np.sqrt(1000)).all()


def test_one_and_many_break_ties_alike_and_elsewhere_not_at_all() -> None:
    rng = np.random.default_rng(0)
    ties = (ties_among(rng.integers(0, 5, 40).astype(float)), (), ((5, 2),))
    counts = np.array([40, 30, 10])
    breaker = TieBreaker(ties, counts, seed=(1 << 64) - 5)
    rows = rng.integers(0, 3, 500)
    ranks = np.array([rng.integers(1, counts[row] + 2) for row in rows])
    ranks[:100] = [ties[0][i % 5][0] if row == 0 else 5 for i, row in enumerate(rows[:100])]
    salts = rng.integers(0, 10**6, 500).astype(np.uint64)
    numbers = np.arange(1, 501)
    many = breaker.many(ranks, rows, numbers, salts)
    each = zip(ranks.tolist(), rows.tolist(), numbers.tolist(), salts.tolist(), strict=True)
    assert many.tolist() == [breaker.one(*one) for one in each]
    sizes = [dict(ties[row]).get(rank, 0) for rank, row in zip(ranks, rows, strict=True)]
    assert ((ranks - many >= 0) & (ranks - many <= sizes)).all() and (many < ranks).any()


def test_the_draws_are_uniform_and_no_neighbours() -> None:
    drawn = uniform(np.arange(20_000, dtype=np.uint64))
    assert [uniform(i) for i in range(5)] == drawn[:5].tolist()
    assert (abs(np.histogram(drawn, 20, (0, 1))[0] - 1000) < 4 * np.sqrt(1000)).all()
    assert abs(np.corrcoef(drawn[1:], drawn[:-1])[0, 1]) < 4 / np.sqrt(20_000)


@pytest.mark.parametrize("classes", [False, True])
def test_one_by_one_all_at_once_and_from_a_state_agree(classes: bool) -> None:
    rng = np.random.default_rng(0)
    scores, labels = rng.integers(0, 4, 90).astype(float), rng.integers(0, 2, 90)
    behind = ClassRanks(scores, labels).scores if classes else scores
    single, many, third = (Monitor(behind, alpha=0.05) for _ in range(3))
    stream, predicted = rng.integers(0, 4, 200).astype(float), rng.integers(0, 2, 200)
    p = p_values(scores, stream)
    if classes:
        ranks = ClassRanks(scores, labels)
        p = np.array([ranks.p_value(x, c) for x, c in zip(p, predicted, strict=True)])
    evidence = []
    for x, c in zip(p, predicted, strict=True):
        single.update(x, predicted=c if classes else None)
        evidence.append(single.log10_evidence)
    found = many.update_many(p, predicted=predicted if classes else None)
    np.testing.assert_allclose(found, evidence, atol=1e-9)
    third.update_many(p[:77], predicted=predicted[:77] if classes else None)
    state = json.loads(json.dumps(third.state_dict()))
    fourth = Monitor(behind, alpha=0.05)
    fourth.load_state_dict(state)
    rest = fourth.update_many(p[77:], predicted=predicted[77:] if classes else None)
    np.testing.assert_allclose(rest, evidence[77:], atol=1e-9)
    other = {c: len(s) for c, s in behind.items()} if isinstance(behind, dict) else len(behind)
    with pytest.raises(InputError, match="found other equal calibration scores"):
        Monitor(other, alpha=0.05).load_state_dict(state)


def test_scores_without_ties_are_as_good_as_their_number() -> None:
    rng = np.random.default_rng(0)
    calibration, stream = rng.normal(size=300), rng.normal(size=400)
    told, counted = Monitor(calibration, alpha=0.01), Monitor(300, alpha=0.01)
    assert told.settings == counted.settings
    p = p_values(calibration, stream)
    assert (told.update_many(p) == counted.update_many(p)).all()


def test_workers_draw_differently_and_merge() -> None:
    rng = np.random.default_rng(0)
    calibration = SCORES["four values"](rng, 100)
    base = Monitor(calibration, alpha=0.01)
    workers = [copy.deepcopy(base) for _ in range(2)]
    ranks = [
        worker._ranks.many(
            p_values(calibration, SCORES["four values"](rng, 200)), None, None, number=1, salt=0
        ).p
        for worker in workers
    ]
    assert (ranks[0] == ranks[1]).mean() < 0.1
    for worker in workers:
        worker.update_many(p_values(calibration, SCORES["four values"](rng, 200)))
    salts = [worker._stream.salt for worker in workers]
    workers[0].merge(workers[1:], base=base)
    assert workers[0]._stream.salt == sum(salts) and workers[0].inputs == 400


def test_scores_that_are_none_are_told() -> None:
    for scores, message in [
        ([1.0, np.nan], r"n_calibration: found \[1.0, nan\]"),
        (["a", "b"], r"n_calibration: found \['a', 'b'\], allowed: numbers"),
        ([[1.0], [2.0]], r"n_calibration: found \[\[1.0\], \[2.0\]\], allowed: how many"),
        ([np.inf], "n_calibration: found"),
        (np.zeros((2, 2)), "n_calibration: found"),
        ({"a": "many"}, "n_calibration: found 'many'"),
    ]:
        with pytest.raises(InputError, match=message):
            Monitor(scores)  # type: ignore[arg-type]
    assert Monitor(np.array([1.0, 2.0, np.inf]), alpha=0.5).settings.n_calibration == 2


def test_layers_with_ties_follow_the_urn() -> None:
    """Two inputs against three calibration inputs, all equal: equal ranks as often as 2/5."""
    equal = 0
    for seed in range(2000):
        ranks = LayerRanks({"a": np.zeros(3)}, seed=seed)
        equal += ranks.p_values([0.0], 1)[0] == ranks.p_values([0.0], 2)[0]
    assert equal / 2000 == pytest.approx(2 / 5, abs=4 * np.sqrt(0.24 / 2000))
