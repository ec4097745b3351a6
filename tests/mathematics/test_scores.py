"""Scores, their rarity and their p-values, against the page in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta, chi2

from nervecode.scoring import (
    EmpiricalPercentileCalibrator,
    alpha_within,
    combine_p_values,
    conformal_p_values,
    false_alarm_bound,
    select,
    zscore,
)
from nervecode.scoring.grid import on_grid
from nervecode.scoring.mondrian import Mondrian, check_weights, effective_size
from nervecode.scoring.rarity import Rarity
from tests.mathematics import oracle
from tests.mathematics.traces import trace


def drawn(n: int = 60, *, ties: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Calibration scores and new ones, some of them far out and some equal to those."""
    random = np.random.default_rng(n)
    known, new = random.exponential(size=n), random.exponential(2.0, size=25)
    if ties:
        known, new = known.round(1), new.round(1)
    return known, np.concatenate([new, known[:5], [-1.0, 50.0]])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("n", [31, 60, 201])
def test_standard_rarity_percentile_and_p_value(n: int, ties: bool) -> None:
    known, new = drawn(n, ties=ties)
    a, s = torch.from_numpy(known), torch.from_numpy(new)
    calibrator = EmpiricalPercentileCalibrator((0.5, 0.9, 0.95))
    calibrator.fit(a)
    for found, formula in (
        (zscore(a, s), oracle.standard),
        (Rarity.of(a)(s), oracle.rarity),
        (calibrator.percentiles(s), oracle.percentile),
        (calibrator.p_values(s), oracle.p_value),
        (conformal_p_values(a, s), oracle.p_value),
    ):
        np.testing.assert_allclose(found, [formula(known, one) for one in new], rtol=1e-9)
    for q in (0.5, 0.9, 0.95):
        assert calibrator.threshold_for(q) == oracle.threshold(known, q)
        flagged = new > oracle.threshold(known, q)
        assert calibrator.is_ood(s, q).tolist() == flagged.tolist()
    assert np.mean(known > oracle.threshold(known, 0.95)) <= 0.05


def test_a_constant_score_is_centred_and_not_scaled() -> None:
    """Where the deviation is at most 10^-12 (1 + |mean|)."""
    for size, scaled in ((0.9e-12, False), (1.2e-12, True)):
        known = torch.tensor([0.0, 2 * size], dtype=torch.float64)
        expected = (1.0 - size) / (size if scaled else 1.0)
        new = torch.tensor([1.0], dtype=torch.float64)
        assert zscore(known, new).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_combined_p_values(layers: int) -> None:
    p = np.random.default_rng(0).uniform(0.001, 1, (40, layers))
    by_method = {
        "fisher": lambda row: chi2.sf(-2 * sum(map(math.log, row)), 2 * layers),
        "simes": lambda row: min(layers * one / i for i, one in enumerate(sorted(row), start=1)),
        "harmonic": lambda row: (
            {1: 1.0, 2: 2.0}.get(layers, math.e * math.log(layers))
            * layers
            / sum(1 / one for one in row)
        ),
    }
    for method, formula in by_method.items():
        found = combine_p_values(torch.from_numpy(p), method)
        np.testing.assert_allclose(found, [min(1, formula(row)) for row in p], rtol=1e-9)


@pytest.mark.parametrize("n", [99, 299, 1000])
def test_the_false_alarms_of_one_calibration_set(n: int) -> None:
    for alpha in (0.01, 0.05, 0.2):
        k = math.floor(alpha * (n + 1) + 1e-9)
        bound = beta.ppf(0.95, k, n + 1 - k)
        assert false_alarm_bound(n, alpha) == pytest.approx(bound, rel=1e-9)
        fitting = [j for j in range(1, n + 1) if beta.ppf(0.95, j, n + 1 - j) <= alpha]
        if fitting:
            assert alpha_within(n, alpha) == max(fitting) / (n + 1)
    page = {99: 0.030, 999: 0.016, 9999: 0.0117}
    for size, rate in page.items():
        assert false_alarm_bound(size, 0.01) == pytest.approx(rate, rel=0.04)


def test_classes_of_99_have_p_values_of_their_own() -> None:
    random = np.random.default_rng(0)
    classes = np.repeat([0, 1, 2], [99, 98, 150])
    known, new = random.exponential(1 + classes), random.exponential(2, 30)
    groups = Mondrian.of(torch.from_numpy(known), torch.from_numpy(classes))
    for k, pooled in ((0, False), (1, True), (2, False), (7, True)):
        group = groups.group(torch.full((30,), k))
        own = known if pooled else known[classes == k]
        expected = [oracle.p_value(own, score) for score in new]
        np.testing.assert_allclose(groups.p_values(torch.from_numpy(new), group), expected)


def test_weighted_p_values() -> None:
    known, new = drawn(40)
    weights = np.random.default_rng(1).uniform(0.1, 3, 40)
    groups = Mondrian.of(torch.from_numpy(known), weights=torch.from_numpy(weights))
    found = groups.p_values(torch.from_numpy(new), torch.zeros(len(new), dtype=torch.long))
    w = max(weights)
    expected = [(w + sum(weights[known >= s])) / (w + sum(weights)) for s in new]
    np.testing.assert_allclose(found, expected)
    assert torch.equal(check_weights(torch.from_numpy(weights), 40), torch.from_numpy(weights))
    kish = sum(weights) ** 2 / sum(weights**2)
    assert effective_size(torch.from_numpy(weights)) == pytest.approx(kish)


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.3])
def test_a_batch_is_selected_from_as_the_page_says(rate: float) -> None:
    random = np.random.default_rng(2)
    for _ in range(20):
        p = np.ceil(random.uniform(size=30) ** random.choice([1, 3], 30) * 100) / 100
        ordered = sorted(p)
        passed = [one for i, one in enumerate(ordered, start=1) if 30 * one <= rate * i]
        expected = p <= max(passed, default=0.0)
        assert select(torch.from_numpy(p), rate).tolist() == expected.tolist()


@pytest.mark.parametrize(("coarse", "fine"), [(3, 7), (4, 8), (1, 5), (5, 12)])
def test_a_place_has_the_score_of_the_nearest_place(coarse: int, fine: int) -> None:
    scores = torch.rand(2, coarse)
    on = on_grid({"layer": trace(scores)}, (fine,))["layer"].surprise.view(2, fine)
    for i in range(fine):
        assert torch.equal(on[:, i], scores[:, math.floor((i + 1 / 2) * coarse / fine)])
