"""Percentiles are monotone; p-values keep their promise on exchangeable data."""

import math

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, percentileofscore

from nervecode.scoring import EmpiricalPercentileCalibrator, conformal_p_values

scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60)


def tensor(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@given(scores, scores)
def test_percentiles_are_monotone_and_p_values_fall(known: list[float], new: list[float]) -> None:
    calibrator = EmpiricalPercentileCalibrator()
    calibrator.fit(tensor(known))
    ordered = tensor(sorted(new))
    percentiles, p_values = calibrator.percentiles(ordered), calibrator.p_values(ordered)
    assert (percentiles.diff() >= 0).all()
    assert (p_values.diff() <= 0).all()
    assert percentiles.min() >= 0
    assert percentiles.max() <= 1
    assert p_values.min() >= 1 / (len(known) + 1)
    assert p_values.max() <= 1


@given(scores, scores)
def test_percentiles_and_p_values_by_counting(known: list[float], new: list[float]) -> None:
    calibrator = EmpiricalPercentileCalibrator()
    calibrator.fit(tensor(known))
    expected = [percentileofscore(known, one, kind="weak") / 100 for one in new]
    np.testing.assert_allclose(calibrator.percentiles(tensor(new)), expected)
    counted = [(1 + sum(k >= one for k in known)) / (len(known) + 1) for one in new]
    np.testing.assert_allclose(conformal_p_values(tensor(known), tensor(new)), counted)


@given(scores, st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_threshold_leaves_at_most_its_share_above(known: list[float], quantile: float) -> None:
    calibrator = EmpiricalPercentileCalibrator((quantile,))
    calibrator.fit(tensor(known))
    flagged = calibrator.is_ood(tensor(known)).double().mean().item()
    assert flagged <= 1 - quantile + 1e-12
    assert calibrator.threshold_for() in known


@given(scores, st.randoms(use_true_random=False))
def test_order_of_the_calibration_scores_does_not_matter(known: list[float], random) -> None:
    shuffled = random.sample(known, len(known))
    grid = tensor(known)
    p_values = conformal_p_values(tensor(known), grid)
    assert torch.equal(p_values, conformal_p_values(tensor(shuffled), grid))


def test_p_values_are_uniform_on_exchangeable_data() -> None:
    """One new score per calibration set: independent draws of p, uniform on 1/(n+1), ..., 1."""
    random, n = np.random.default_rng(0), 199
    draws = torch.from_numpy(random.gumbel(size=(2000, n + 1)))
    p = torch.cat([conformal_p_values(row[:n], row[n:]) for row in draws]).numpy()
    # Minus a uniform fraction of a step, the discrete uniform becomes the continuous one.
    assert kstest(p - random.uniform(size=2000) / (n + 1), "uniform").pvalue > 0.01


def test_false_alarms_stay_below_alpha() -> None:
    random, draws, n, new = np.random.default_rng(1), 200, 100, 100
    for alpha in (0.01, 0.05, 0.1, 0.25):
        rates = []
        for _ in range(draws):
            data = torch.from_numpy(random.standard_t(3, size=n + new))
            p = conformal_p_values(data[:n], data[n:])
            rates.append((p <= alpha).double().mean().item())
        error = np.std(rates, ddof=1) / math.sqrt(draws)
        assert np.mean(rates) <= alpha + 3 * error
        assert np.mean(rates) >= alpha - 1 / (n + 1) - 3 * error  # and not by never flagging
