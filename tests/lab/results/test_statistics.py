"""Statistics of a study, against scikit-learn, SciPy, brute force and Demsar's own example."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare
from sklearn.metrics import roc_auc_score

from nervecode.lab.results.statistics import (
    interval,
    over_settings,
    paired_inputs,
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


def test_the_interval_over_inputs_is_that_of_a_bootstrap_of_the_scores() -> None:
    random = np.random.default_rng(0)
    truth = random.normal(size=300), random.normal(1, 1, size=250)
    ours = [part + random.normal(0, 0.3, size=part.shape) for part in truth]
    theirs = [part + random.normal(0, 1.0, size=part.shape) for part in truth]
    # How often each input is in each of 1000 samples with replacement.
    inside, outside = (random.multinomial(n, np.full(n, 1 / n), 1000) for n in (300, 250))
    wins = [(part[1][:, None] > part[0]).astype(float) for part in (ours, theirs)]
    draws = ((outside @ (wins[0] - wins[1])) * inside).sum(1) / wins[0].size
    found = interval(
        paired_inputs({"a": placements(*ours)}, {"a": placements(*theirs)}, {"a": 1.0})
    )
    assert found.mean == pytest.approx(auroc(*ours) - auroc(*theirs))
    low, high = np.quantile(draws, [0.025, 0.975])
    assert found.low == pytest.approx(low, abs=0.15 * (high - low))
    assert found.high == pytest.approx(high, abs=0.15 * (high - low))


def test_weights_share_out_the_difference_over_sets() -> None:
    random = np.random.default_rng(1)
    inside, a, b = (random.normal(m, 1, size=80) for m in (0, 1, 2))
    ours = {"a": placements(inside, a), "b": placements(inside, b)}
    noise = random.normal(size=80)
    theirs = {"a": placements(noise, a), "b": placements(noise, b)}
    found = paired_inputs(ours, theirs, {"a": 0.25, "b": 0.75})[0]
    expected = sum(
        w * (auroc(inside, part) - auroc(noise, part)) for w, part in ((0.25, a), (0.75, b))
    )
    assert found == pytest.approx(expected)


def test_a_method_against_itself_has_no_width() -> None:
    random = np.random.default_rng(2)
    same = {"a": placements(random.normal(size=30), random.normal(size=30))}
    found = interval(paired_inputs(same, same, {"a": 1.0}))
    assert (found.mean, found.low, found.high) == (0, 0, 0)


def test_over_settings_covers_the_mean() -> None:
    found = over_settings([1.0, 2.0, 3.0, 4.0])
    assert found.mean == 2.5
    assert 1 <= found.low < 2.5 < found.high <= 4


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
