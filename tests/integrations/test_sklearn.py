"""SurpriseDetector keeps scikit-learn's promises and our own."""

from __future__ import annotations

import pickle  # noqa: TID251 (scikit-learn's users do)
import warnings

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.base import clone
from sklearn.datasets import load_digits, load_wine
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from nervecode.errors import InputError
from nervecode.integrations.sklearn import SurpriseDetector


@parametrize_with_checks([SurpriseDetector(random_state=0)])
@pytest.mark.filterwarnings("ignore:alpha:UserWarning")
def test_the_checks_of_scikit_learn(estimator: SurpriseDetector, check: object) -> None:
    check(estimator)  # type: ignore[operator]


def points(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 5)) @ np.diag([1, 2, 3, 4, 5.0])


def test_false_alarms_are_what_alpha_says() -> None:
    for alpha in (0.02, 0.1):
        detector = SurpriseDetector(alpha=alpha, random_state=0).fit(points(4000, 0))
        rate = (detector.predict(points(4000, 1)) == -1).mean()
        assert abs(rate - alpha) < 3 * np.sqrt(alpha * (1 - alpha) * (1 / 1000 + 1 / 4000))


def test_rows_that_repeat_are_told() -> None:
    with pytest.warns(UserWarning, match="of the rows that calibrate are rows that fitted"):
        SurpriseDetector(random_state=0).fit(np.repeat(points(100, 0), 6, axis=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SurpriseDetector(random_state=0).fit(points(600, 0))


def test_an_outlier_is_a_p_value_of_at_most_alpha() -> None:
    detector = SurpriseDetector(alpha=0.1, random_state=0).fit(points(200, 0))
    new = points(500, 1) * np.linspace(0.5, 2, 500)[:, None]
    assert ((detector.p_values(new) <= 0.1) == (detector.predict(new) == -1)).all()
    assert np.array_equal(
        detector.decision_function(new), detector.score_samples(new) - detector.offset_
    )


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_of_normal_data_what_is_further_from_the_mean_is_stranger(columns: int) -> None:
    rows = np.random.default_rng(0).normal(size=(4000, columns))
    detector = SurpriseDetector(random_state=0).fit(rows)
    assert detector.p_values(np.zeros((1, columns))) > 0.4
    new = np.random.default_rng(1).normal(size=(1000, columns))
    # One code would follow Mahalanobis' distance to the letter; several have a bump each.
    distances = np.linalg.norm(new, axis=1)
    assert spearmanr(-detector.score_samples(new), distances).statistic > 0.8


def test_class_labels_make_the_gap_between_classes_strange() -> None:
    generator = np.random.default_rng(0)
    centres = np.eye(3, 6) * 8
    y = np.arange(900) % 3
    x = centres[y] + generator.normal(size=(900, 6))
    names = np.array(["a", "b", "c"])[y]
    between = centres[[0, 1, 2] * 100] / 2 + centres[[1, 2, 0] * 100] / 2
    new = np.concatenate([x[600:], between + generator.normal(size=(300, 6))])
    strange = [0] * 300 + [1] * 300
    with_classes, without = (
        roc_auc_score(strange, -SurpriseDetector(random_state=0, codes_per_class=1)
                      .fit(x[:600], labels).score_samples(new))
        for labels in (names[:600], None)
    )  # fmt: skip
    assert with_classes > 0.99
    assert with_classes > without


def test_a_pipeline_on_a_table_with_a_class_held_out() -> None:
    x, y = load_wine(return_X_y=True)
    pipeline = make_pipeline(StandardScaler(), SurpriseDetector(random_state=0))
    with pytest.warns(UserWarning, match="calibration inputs allow no less"):
        pipeline.set_params(surprisedetector__alpha=0.01).fit(x[y > 0])
    score = -pipeline.score_samples(x)
    assert roc_auc_score(y == 0, score) > 0.95


def test_a_seed_gives_the_same_and_a_clone_is_unfitted() -> None:
    a, b = (SurpriseDetector(random_state=3).fit(points(200, 0)) for _ in range(2))
    new = points(50, 1)
    assert np.array_equal(a.score_samples(new), b.score_samples(new))
    assert not hasattr(clone(a), "codes_")
    again = pickle.loads(pickle.dumps(a))  # noqa: S301
    assert np.array_equal(again.score_samples(new), a.score_samples(new))


def test_one_row_at_a_time_scores_as_all_together() -> None:
    detector = SurpriseDetector(random_state=0).fit(points(200, 0))
    new = points(20, 1)
    alone = np.concatenate([detector.score_samples(row[None]) for row in new])
    np.testing.assert_allclose(alone, detector.score_samples(new), rtol=1e-10)


@pytest.mark.parametrize("name", ["alpha", "calibration_fraction"])
def test_a_share_outside_of_0_to_1(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: found 1.5, allowed: between 0 and 1"):
        SurpriseDetector(**{name: 1.5}).fit(points(50, 0))


def test_nan_and_a_single_row_are_refused() -> None:
    bad = points(50, 0)
    bad[3, 2] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        SurpriseDetector().fit(bad)
    with pytest.raises(ValueError, match="1 sample"):
        SurpriseDetector().fit(points(1, 0))


@pytest.mark.parametrize("scale", [1e-2, 1e3])
def test_columns_that_drown_others_are_told(scale: float) -> None:
    """Beside a scale of their own, outliers in a small column are not seen: a scaler makes them."""
    generator = np.random.default_rng(0)
    scales = np.array([1, scale, 1, 1, 1])
    rows = generator.normal(size=(800, 5)) * scales
    strange = generator.normal(size=(200, 5))
    strange[:, 1 if scale < 1 else 2] = 8
    with pytest.warns(UserWarning, match=r"X: \d of 5 columns vary less than 1/30 as much as"):
        alone = SurpriseDetector(random_state=0).fit(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        scaled = make_pipeline(StandardScaler(), SurpriseDetector(random_state=0)).fit(rows)
        SurpriseDetector(random_state=0).fit(load_digits().data)  # some pixels hardly vary
    assert (alone.predict(strange * scales) < 0).mean() < 0.3
    assert (scaled.predict(strange * scales) < 0).mean() > 0.9


def test_what_no_code_can_hold_is_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(40, 3))
    with pytest.raises(InputError, match=r"X: found a value of .*e\+200, allowed: up to 1e\+15"):
        SurpriseDetector().fit(rows * [1, 1e200, 1])
    with pytest.raises(InputError, match=r"y: found labels of several kinds \(int, str\)"):
        SurpriseDetector().fit(rows, np.array([0, "a"] * 20, dtype=object))


def test_a_target_with_fractions_is_no_class() -> None:
    x = np.random.default_rng(0).normal(size=(60, 3))
    with pytest.raises(
        InputError, match="y: found float64 values with fractions, allowed: classes"
    ):
        SurpriseDetector().fit(x, x[:, 0])
    SurpriseDetector(alpha=0.1).fit(x, (x[:, 0] > 0).astype(float))
