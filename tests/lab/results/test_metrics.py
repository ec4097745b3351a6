"""Metrics against scikit-learn and against loops over all pairs and thresholds."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from nervecode.errors import InputError
from nervecode.lab.results.metrics import calibration_error, separation

rng = np.random.default_rng(0)
CASES = {
    "apart": (rng.normal(size=60), rng.normal(2, 1, 45)),
    "mixed": (rng.normal(size=37), rng.normal(size=53)),
    "reversed": (rng.normal(size=40), rng.normal(-3, 1, 20)),
    "ties": (rng.integers(0, 4, 50).astype(float), rng.integers(1, 6, 70).astype(float)),
    "constant": (np.ones(20), np.ones(30)),
    "one each": (np.array([0.0]), np.array([1.0])),
    "twenty": (np.arange(20.0), np.arange(20.0) + 0.5),
    "float32": (rng.normal(size=33).astype(np.float32), rng.normal(size=44).astype(np.float32)),
    "big": (1e8 + rng.normal(size=30), 1e8 + rng.normal(1, 1, 30)),
}
both = pytest.mark.parametrize(("inside", "outside"), CASES.values(), ids=CASES)


def average_precision(positive: np.ndarray, negative: np.ndarray) -> float:
    """Sum over thresholds of (recall step) x precision, one threshold at a time."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(positive) | set(negative), reverse=True):
        caught, false = (positive >= threshold).sum(), (negative >= threshold).sum()
        total += (caught - before) / len(positive) * caught / (caught + false)
        before = caught
    return total


@both
def test_auroc_is_the_chance_that_an_outlier_scores_higher(
    inside: np.ndarray, outside: np.ndarray
) -> None:
    pairs = [(o > i) + 0.5 * (o == i) for o in outside for i in inside]
    found = separation(inside, outside).auroc
    assert found == pytest.approx(np.mean(pairs), abs=1e-12)
    labels = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    assert found == pytest.approx(roc_auc_score(labels, np.r_[inside, outside]))


@both
def test_aupr_is_average_precision_of_either_class(inside: np.ndarray, outside: np.ndarray) -> None:
    found = separation(inside, outside)
    assert found.aupr_out == pytest.approx(average_precision(outside, inside))
    assert found.aupr_in == pytest.approx(average_precision(-inside, -outside))
    labels = np.r_[np.ones(len(inside)), np.zeros(len(outside))]
    assert found.aupr_in == pytest.approx(
        average_precision_score(labels, -np.r_[inside, outside].astype(float))
    )


@both
def test_fpr95_is_the_least_id_flagged_when_95_percent_of_ood_is_caught(
    inside: np.ndarray, outside: np.ndarray
) -> None:
    thresholds = [*inside, *outside, -np.inf]
    catching = [t for t in thresholds if (outside >= t).sum() * 100 >= 95 * len(outside)]
    expected = min((inside >= t).mean() for t in catching)
    assert separation(inside, outside).fpr95 == pytest.approx(expected, abs=1e-12)


@both
def test_the_other_orientation_is_the_ood_accepted_when_95_percent_of_id_is(
    inside: np.ndarray, outside: np.ndarray
) -> None:
    thresholds = [*inside, *outside, np.inf]
    accepting = [t for t in thresholds if (inside < t).sum() * 100 >= 95 * len(inside)]
    expected = min((outside < t).mean() for t in accepting)
    found = separation(inside, outside).id_tpr95_ood_accepted
    assert found == pytest.approx(expected, abs=1e-12)


def test_perfect_and_useless_separation() -> None:
    perfect = separation(np.zeros(10), np.ones(30))
    assert (perfect.auroc, perfect.aupr_in, perfect.aupr_out) == (1.0, 1.0, 1.0)
    assert (perfect.fpr95, perfect.id_tpr95_ood_accepted) == (0.0, 0.0)
    useless = separation(np.ones(10), np.ones(30))
    assert useless.auroc == 0.5
    assert (useless.aupr_in, useless.aupr_out) == (0.25, 0.75)
    assert (useless.fpr95, useless.id_tpr95_ood_accepted) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("inside", "outside", "name"),
    [([], [1.0], "ID"), ([1.0], [], "OOD"), ([np.nan], [1.0], "ID"), ([1.0], [np.inf], "OOD")],
)
def test_scores_that_are_empty_or_not_finite_are_refused(
    inside: list[float], outside: list[float], name: str
) -> None:
    with pytest.raises(InputError, match=f"^{name} scores"):
        separation(np.array(inside), np.array(outside))


@pytest.mark.parametrize("bins", [1, 5, 15])
def test_the_calibration_error_is_that_of_its_equation(bins: int) -> None:
    random = np.random.default_rng(bins)
    confidences = np.r_[random.uniform(0.1, 1, 300), 0.2, 0.4, 1.0].astype(np.float32)
    correct = random.uniform(size=303) < confidences
    expected = 0.0
    for k in range(bins):
        inside = [i for i, c in enumerate(confidences) if k < np.float32(c) * bins <= k + 1]
        if inside:
            gap = np.mean(correct[inside]) - np.mean(confidences[inside].astype(float))
            expected += len(inside) / 303 * abs(gap)
    assert calibration_error(confidences, correct, bins=bins) == pytest.approx(expected, abs=1e-6)
    assert calibration_error(np.ones(4), np.ones(4, dtype=bool)) == 0
    assert calibration_error(np.ones(4), np.zeros(4, dtype=bool)) == 1
