"""The e-values against Pólya's urn counted out, and the evidence against loops over every start."""

import math
from itertools import product

import numpy as np
import pytest

from nervecode.monitor.bettors import _BETTORS, KINDS, LOG_WEIGHTS, UNIT, WORDS, prices
from nervecode.monitor.evidence import (
    Evidence,
    log_mean,
    log_stake,
    log_stakes,
    log_tail,
    log_tails,
)
from nervecode.monitor.reference import Reference


def urn(ranks: np.ndarray, n: int) -> np.ndarray:
    """(T, B) ln e-values, with the probability of every rank written out."""
    table = prices(np.arange(1, n + 2) / (n + 1)) / UNIT
    seen = np.ones(n + 1)
    rows = []
    for rank in ranks:
        rows.append(np.log(table[rank - 1] / (seen / seen.sum() @ table)))
        seen[rank - 1] += 1
    return np.array(rows)


def test_an_e_value_is_the_price_over_what_the_urn_expects() -> None:
    ranks = np.random.default_rng(0).integers(1, 8, 50)
    reference = Reference([6])
    stepped = []
    for rank in ranks:
        paid = prices(np.array(rank / 7))
        stepped.append(reference.e_values(0, paid))
        reference.take(0, paid)
    np.testing.assert_allclose(stepped, urn(ranks, 6), atol=1e-12)
    np.testing.assert_allclose(Reference([6]).block(0, prices(ranks / 7)), stepped, atol=1e-12)


def test_the_wealth_is_a_martingale_of_the_urn_exactly() -> None:
    """Over all streams of four inputs and a calibration set of two: E[product of e-values] = 1."""
    total = np.zeros(len(KINDS))
    for ranks in product((1, 2, 3), repeat=4):
        seen, chance = np.ones(3), 1.0
        for rank in ranks:
            chance *= seen[rank - 1] / seen.sum()
            seen[rank - 1] += 1
        e_values = np.exp(Reference([2]).block(0, prices(np.array(ranks) / 3)))
        total += chance * e_values.prod(0)
    np.testing.assert_allclose(total, 1, rtol=1e-12)


def test_the_ranks_of_real_scores_follow_the_urn() -> None:
    """Two inputs after three calibration inputs: equal ranks as often as Pólya has it, 2/5."""
    scores = np.random.default_rng(0).normal(size=(40_000, 5))
    ranks = 1 + (scores[:, :3, None] >= scores[:, None, 3:]).sum(1)
    equal = (ranks[:, 0] == ranks[:, 1]).mean()
    assert equal == pytest.approx(2 / 5, abs=4 * math.sqrt(0.24 / 40_000))


def test_the_sum_of_ten_million_inputs_is_exact() -> None:
    reference = Reference([10])
    start = reference.sums.copy()
    paid = prices(np.array([1 / 11, 0.5, 1.0]))
    for _ in range(10):
        reference.block(0, np.tile(paid, (1000, 1)))
    assert (reference.sums - start == 10_000 * paid.sum(0)).all()
    # The dearest price, ten million times, with a million calibration inputs, still fits.
    assert int(prices(np.array(1e-6)).max()) * 10**7 < np.iinfo(np.int64).max


def test_prices_have_mean_one_and_are_positive() -> None:
    p = (np.arange(200_000) + 0.5) / 200_000
    paid = prices(p) / UNIT
    assert (paid > 0).all()
    # The steepest lists are integrable, but converge slowly towards p = 0.
    mild = [i for i, (_, terms, _) in enumerate(_BETTORS) if min(terms) > -0.85]
    np.testing.assert_allclose(paid.mean(0)[mild], 1, atol=0.06)
    assert np.exp(LOG_WEIGHTS).sum() == pytest.approx(1)
    assert set(KINDS) == set(WORDS)


@pytest.mark.parametrize("stakes", ["equal", "shrinking"])
def test_wealth_gain_and_start_against_loops(stakes: str) -> None:
    rng = np.random.default_rng(1)
    log_e = rng.normal(-0.1, 0.5, (60, len(KINDS)))
    log_stake_of = np.zeros(60) if stakes == "equal" else log_stakes(np.arange(60))
    numbers = np.arange(1, 61)
    stepped, blocked = Evidence(1), Evidence(1)
    for e, stake, number in zip(log_e, log_stake_of, numbers, strict=True):
        stepped.put(0, stepped.after(0, e, float(stake), int(number)))
    parts = [slice(0, 1), slice(1, 25), slice(25, 60)]
    wealth = [blocked.block(0, log_e[p], log_stake_of[p], numbers[p]) for p in parts]
    np.testing.assert_allclose(blocked.wealth, stepped.wealth, atol=1e-12)
    np.testing.assert_allclose(blocked.gain, stepped.gain, atol=1e-12)
    np.testing.assert_allclose(blocked.means, log_mean(stepped.wealth), atol=1e-12)
    assert (blocked.began == stepped.began).all()
    sums = np.array([log_e[start:].sum(0) for start in range(60)])  # of every start
    expected = np.log((np.exp(log_stake_of)[:, None] * np.exp(sums)).sum(0))
    np.testing.assert_allclose(np.concatenate(wealth)[-1], expected, atol=1e-12)
    np.testing.assert_allclose(stepped.gain[0], sums.max(0), atol=1e-12)
    assert (stepped.began[0] == sums.argmax(0) + 1).all()


def test_the_stakes_of_all_starts_sum_to_one() -> None:
    counts = np.arange(1000)
    spent = np.exp(log_stakes(counts)).sum()
    assert spent + math.exp(log_tail(1000)) == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(log_stakes(counts), [log_stake(t) for t in range(1000)], atol=1e-12)
    np.testing.assert_allclose(log_tails(counts), [log_tail(t) for t in range(1000)], atol=1e-12)
