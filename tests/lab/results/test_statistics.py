"""Statistics of a study, against scikit-learn, SciPy, brute force and Demsar's own example."""

import re

import numpy as np
import pytest
from scipy.stats import friedmanchisquare
from sklearn.metrics import roc_auc_score

from nervecode.lab.results.statistics import (
    around,
    over_data_sets,
    paired_error,
    placements,
    ranks,
)


def auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    truth = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    return float(roc_auc_score(truth, np.r_[inside, outside]))


@pytest.mark.parametrize("digits", [0, 1, 8])
def test_placements_average_to_the_auroc_ties_and_all(digits: int) -> None:
    random = np.random.default_rng(digits)
    inside = random.normal(size=60).round(digits)
    outside = random.normal(1, 2, size=45).round(digits)
    for side in placements(inside, outside):
        assert side.mean() == pytest.approx(auroc(inside, outside))


Scores = tuple[np.ndarray, np.ndarray]


@pytest.fixture
def pair() -> tuple[Scores, Scores]:
    """Scores of ID and OOD by a good method and by a noisy one."""
    random = np.random.default_rng(0)
    truth = random.normal(size=300), random.normal(1, 1, size=250)
    ours, theirs = (
        tuple(part + random.normal(0, noise, size=part.shape) for part in truth)
        for noise in (0.3, 1.0)
    )
    return ours, theirs  # type: ignore[return-value]


def test_the_error_over_inputs_is_that_of_a_bootstrap_of_the_scores(
    pair: tuple[Scores, Scores],
) -> None:
    random = np.random.default_rng(1)
    # How often each input is in each of 1000 samples with replacement.
    inside, outside = (random.multinomial(n, np.full(n, 1 / n), 1000) for n in (300, 250))
    wins = [(part[1][:, None] > part[0]).astype(float) for part in pair]
    draws = ((outside @ (wins[0] - wins[1])) * inside).sum(1) / wins[0].size
    ours, theirs = ({"a": placements(*part)} for part in pair)
    found = paired_error(ours, theirs, {"a": 1.0})
    assert found == pytest.approx(draws.std(), rel=0.1)
    low, high = np.quantile(draws, [0.025, 0.975])
    interval = around(float(draws.mean()), found)
    assert interval.low == pytest.approx(low, abs=0.1 * (high - low))
    assert interval.high == pytest.approx(high, abs=0.1 * (high - low))


def test_the_error_over_two_sets_is_delongs(pair: tuple[Scores, Scores]) -> None:
    """Two sets that share ID: DeLong's covariances of the four AUROC, written out."""
    random = np.random.default_rng(2)
    (inside, a), (noisy, noisy_a) = pair
    b, noisy_b = random.normal(2, 1, size=(2, 40))
    weights = {"a": 0.25, "b": 0.75}
    found = paired_error(
        {"a": placements(inside, a), "b": placements(inside, b)},
        {"a": placements(noisy, noisy_a), "b": placements(noisy, noisy_b)},
        weights,
    )
    cases = [(0.25, inside, a), (0.75, inside, b), (-0.25, noisy, noisy_a), (-0.75, noisy, noisy_b)]
    places = []  # of each AUROC: per ID input, and per OOD input
    for _, low, high in cases:
        wins = [[float(b > a) + 0.5 * float(b == a) for b in high] for a in low]
        places.append((np.mean(wins, axis=1), np.mean(wins, axis=0)))
    variance = 0.0
    for i, (wi, *_) in enumerate(cases):
        for j, (wj, *_) in enumerate(cases):
            variance += wi * wj * np.cov(places[i][0], places[j][0])[0, 1] / len(inside)
            if i % 2 == j % 2:  # the same set
                n = len(places[i][1])
                variance += wi * wj * np.cov(places[i][1], places[j][1])[0, 1] / n
    assert found == pytest.approx(np.sqrt(variance))


def test_a_method_against_itself_has_no_error() -> None:
    random = np.random.default_rng(2)
    same = {"a": placements(random.normal(size=30), random.normal(size=30))}
    assert paired_error(same, same, {"a": 1.0}) == 0


def test_one_input_alone_gives_a_finite_error() -> None:
    ours, theirs = ({"a": placements(np.array([x]), np.array([1.0]))} for x in (0.0, 2.0))
    assert paired_error(ours, theirs, {"a": 1.0}) == 0


def test_an_interval_is_that_of_the_normal_law() -> None:
    found = around(1.0, 2.0)
    assert (found.mean, found.low, found.high) == pytest.approx((1, -2.919928, 4.919928))


def test_over_data_sets_covers_the_mean() -> None:
    found = over_data_sets(zip("abcde", [1.0, 2.0, 3.0, 4.0, 5.0], strict=True))
    assert found.mean == 3
    assert 1 <= found.low < 3 < found.high <= 5
    assert re.fullmatch(r"\+3\.00 \[\+\d\.\d\d, \+\d\.\d\d\]", str(found))


def test_a_few_data_sets_have_a_mean_and_no_interval() -> None:
    found = over_data_sets(zip("abcd", [1.0, 2.0, 3.0, 4.0], strict=True))
    assert (found.mean, str(found)) == (2.5, "+2.50")
    assert np.isnan([found.low, found.high]).all()


# Table 6 of Demsar 2006: AUC of four versions of C4.5 on 14 data sets.
DEMSAR = {
    "C4.5": [.763, .599, .954, .628, .882, .936, .661, .583, .775, 1, .940, .619, .972, .957],
    "C4.5+m": [.768, .591, .971, .661, .888, .931, .668, .583, .838, 1, .962, .666, .981, .978],
    "C4.5+cf": [.771, .590, .968, .654, .886, .916, .609, .563, .866, 1, .965, .614, .9751, .946],
    "C4.5+m+cf": [.798, .569, .967, .657, .898, .931, .685, .625, .875, 1, .962, .669, .975, .970],
}  # fmt: skip


def test_ranks_of_demsars_example() -> None:
    found = ranks(DEMSAR)
    assert found.average["C4.5"] == pytest.approx(3.143, abs=1e-3)
    assert found.average["C4.5+m"] == pytest.approx(2.000, abs=1e-3)
    assert found.average["C4.5+cf"] == pytest.approx(2.893, abs=1e-3)
    assert found.average["C4.5+m+cf"] == pytest.approx(1.964, abs=1e-3)
    assert found.critical_difference == pytest.approx(1.25, abs=5e-3)  # 2.569 sqrt(20 / 84)
    assert found.p_value == pytest.approx(friedmanchisquare(*DEMSAR.values()).pvalue)
    assert found.groups() == [("C4.5+m+cf", "C4.5")]


def test_groups_are_the_longest_runs_within_the_critical_difference() -> None:
    random = np.random.default_rng(3)
    scores = {f"m{i}": random.normal(-3 * i, 0.1, size=12) for i in range(6)}
    found = ranks(scores)
    assert list(found.average) == [f"m{i}" for i in range(6)]
    assert list(found.average.values()) == [1, 2, 3, 4, 5, 6]
    width = int(np.ceil(found.critical_difference)) - 1  # ranks are whole here
    assert found.groups() == [(f"m{i}", f"m{i + width}") for i in range(6 - width)]


def test_methods_are_alike_that_some_group_joins() -> None:
    random = np.random.default_rng(4)
    found = ranks({f"m{i}": random.normal(-0.5 * i, 1, size=15) for i in range(8)})
    order = list(found.average)
    runs = [(order.index(best), order.index(worst)) for best, worst in found.groups()]
    assert len(runs) > 1
    for i, one in enumerate(order):
        joined = [m for j, m in enumerate(order) if j != i and any(
            best <= min(i, j) and max(i, j) <= worst for best, worst in runs
        )]  # fmt: skip
        assert found.alike(one) == joined
