"""The monitor's evidence, one input at a time, against urns and wealth counted out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from nervecode.monitor import Monitor
from nervecode.monitor.evidence import Evidence
from nervecode.monitor.stream import StreamState
from tests.mathematics.oracle import BETTORS, Urn, Wealth, stake

N = 30


def ranks(length: int, seed: int = 0, *, n: int = N) -> list[int]:
    """Ranks of 1 to n + 1, from the middle on mostly the smallest."""
    random = np.random.default_rng(seed)
    before = random.integers(1, n + 2, length // 2).tolist()
    return before + random.integers(1, 4, length - length // 2).tolist()


@pytest.mark.parametrize("promise", [{"alpha": 0.01}, {"run_length": 300}])
def test_the_evidence_is_the_wealth_of_the_page(promise: dict[str, float]) -> None:
    monitor, urn, wealth = Monitor(N, **promise), Urn(N), Wealth()
    threshold = 1 / 0.01 if "alpha" in promise else 300
    first = None
    for t, rank in enumerate(ranks(60), start=1):
        wealth.take(urn.e_values(rank), stake(t) if "alpha" in promise else 1.0, t)
        evidence = wealth.mean + (1 / math.log2(t + 2) if "alpha" in promise else 0.0)
        alarm = monitor.update(rank / (N + 1))
        assert monitor.log10_evidence == pytest.approx(math.log10(evidence), abs=1e-4)
        if evidence >= threshold and first is None:
            first = t
            assert alarm is not None
            assert (alarm.input, alarm.since) == (t, wealth.began[wealth.leader])
            assert alarm.kind == BETTORS[wealth.leader][0]
        else:
            assert alarm is None
    assert first is not None


def test_every_bettor_wins_where_the_page_says() -> None:
    """A stream that only one kind of bettor likes tells their price lists apart."""
    streams = {"fall": [N + 1], "burst": [1], "narrow": [14, 15, 16, 17], "spread": [1, N + 1]}
    for kind, repeated in streams.items():
        monitor, urn, wealth = Monitor(N, run_length=1e6), Urn(N), Wealth()
        for t in range(1, 41):
            rank = repeated[t % len(repeated)]
            wealth.take(urn.e_values(rank), 1.0, t)
            monitor.update(rank / (N + 1))
        assert monitor.log10_evidence == pytest.approx(math.log10(wealth.mean), abs=1e-4)
        assert BETTORS[wealth.leader][0] in (kind, "burst")


@pytest.mark.parametrize("block", [1, 7, 60])
def test_blocks_are_the_same_and_a_restart_begins_anew(block: int) -> None:
    """The bettors begin again with the first stake; the urn keeps what it has seen."""
    monitor, urn = Monitor(N, alpha=0.01), Urn(N)
    for seed in range(2):
        wealth, drawn, expected = Wealth(), ranks(60, seed), []
        for t, rank in enumerate(drawn, start=1):
            wealth.take(urn.e_values(rank), stake(t), 60 * seed + t)
            expected.append(math.log10(wealth.mean + 1 / math.log2(t + 2)))
        first = 1 + next(i for i, evidence in enumerate(expected) if evidence >= 2)
        p = np.array(drawn) / (N + 1)
        parts = [monitor.update_many(p[i : i + block]) for i in range(0, 60, block)]
        np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-4)
        assert monitor.alarm is not None
        assert monitor.alarm.input == 60 * seed + first
        if block == 1:
            assert monitor.alarm.since >= 60 * seed + 1
        monitor.restart()


def test_the_leader_has_won_most_by_its_weight() -> None:
    evidence = Evidence(1)
    evidence.wealth[0] = 0.0
    weights = [weight for _, _, weight in BETTORS]
    assert evidence.leader(0) == weights.index(max(weights))


def test_a_class_is_named_where_it_says_twice_what_all_inputs_say() -> None:
    """Of two classes one changes; before that, the evidence of all inputs leads."""
    state = StreamState(Monitor({"a": 20, "b": 20}, run_length=50).settings)
    for ahead, named in ((1.9, None), (2.1, "b")):
        state.score.means[0], state.classes.means[:] = 3.0, [0.0, 3.0 + math.log(ahead)]
        assert state.raise_alarm().predicted == named


@pytest.mark.parametrize("block", [1, 9])
def test_half_of_the_evidence_is_that_of_the_classes(block: int) -> None:
    counts = {0: 12, 1: 18}
    monitor, many = Monitor(counts, alpha=0.05), Monitor(counts, alpha=0.05)
    p, predicted, told = [], [], []
    urns = {label: Urn(n) for label, n in counts.items()}
    every, own = Wealth(), {label: Wealth() for label in counts}
    random = np.random.default_rng(1)
    for t in range(1, 51):
        label = int(random.integers(2))
        rank = int(random.integers(1, 3 if label else counts[label] + 2))
        e = urns[label].e_values(rank)
        every.take(e, stake(t), t)
        own[label].take(e, stake(t), t)
        monitor.update(rank / (counts[label] + 1), predicted=label)
        p.append(rank / (counts[label] + 1))
        predicted.append(label)
        evidence = 0.5 * every.mean + 0.5 * sum(one.mean for one in own.values())
        evidence += 1 / math.log2(t + 2)
        assert monitor.log10_evidence == pytest.approx(math.log10(evidence), abs=1e-4)
        told.append(monitor.log10_evidence)
    found = [
        many.update_many(np.array(p[i : i + block]), predicted=predicted[i : i + block])
        for i in range(0, 50, block)
    ]
    np.testing.assert_allclose(np.concatenate(found), told, atol=1e-9)


@pytest.mark.parametrize("names", [("stem", "body", "head"), ("body",)])
def test_a_layer_is_named_at_as_many_times_the_threshold_as_there_are_layers(
    names: tuple[str, ...],
) -> None:
    monitor = Monitor(N, run_length=50, layers=names)
    urns, wealth = [Urn(N) for _ in names], [Wealth() for _ in names]
    streams = [ranks(60, seed) for seed in range(2)] + [[1 + t % (N + 1) for t in range(60)]]
    streams = streams[: len(names)]
    seen = set()
    for t in range(1, 61):
        row = [stream[t - 1] for stream in streams]
        for urn, money, rank in zip(urns, wealth, row, strict=True):
            money.take(urn.e_values(rank), 1.0, t)
        monitor.update(16 / (N + 1) if t % 2 else 1.0, layers=[rank / (N + 1) for rank in row])
        order = sorted(range(len(names)), key=lambda i: -wealth[i].mean)
        named = tuple(names[i] for i in order if wealth[i].mean >= len(names) * 50)
        assert monitor.named_layers == named
        assert list(monitor.layers.values()) == pytest.approx(
            [math.log10(money.mean) for money in wealth], abs=1e-4
        )
        seen.add(named)
    assert len(seen) > 1
