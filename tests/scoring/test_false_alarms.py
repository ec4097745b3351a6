"""The Beta law of one calibration set against SciPy, and by simulation."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import beta

from nervecode.errors import InputError
from nervecode.scoring import alpha_within, conformal_p_values, false_alarm_bound
from nervecode.scoring.false_alarms import excess, rounded_up


@pytest.mark.parametrize("n", [2, 19, 99, 300, 5000, 1_000_000, 10_000_000])
@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.05, 0.5, 0.99])
@pytest.mark.parametrize("confidence", [0.5, 0.95, 0.999])
def test_the_bound_is_a_quantile_of_the_beta_law(n: int, alpha: float, confidence: float) -> None:
    k = math.floor(alpha * (n + 1) + 1e-9)
    expected = beta.ppf(confidence, k, n + 1 - k) if k else 0.0
    assert false_alarm_bound(n, alpha, confidence=confidence) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n", [299, 1000, 54_321])
@pytest.mark.parametrize("rate", [0.01, 0.05, 0.3])
@pytest.mark.parametrize("confidence", [0.05, 0.5, 0.95])
def test_alpha_within_is_the_largest_that_keeps_the_rate(
    n: int, rate: float, confidence: float
) -> None:
    ranks = np.arange(1, n + 1)
    expected = ranks[beta.ppf(confidence, ranks, n + 1 - ranks) <= rate].max() / (n + 1)
    assert alpha_within(n, rate, confidence=confidence) == expected
    assert false_alarm_bound(n, expected, confidence=confidence) <= rate


def test_too_few_inputs_name_the_smallest_rate_and_how_many_serve() -> None:
    smallest = beta.ppf(0.95, 1, 298)
    with pytest.raises(InputError, match=r"as there are 298 .*299") as refused:
        alpha_within(298, 0.01)
    allowed = float(str(refused.value).split("allowed: ")[1].split(" or more")[0])
    assert smallest <= allowed < smallest + 1.1e-4
    assert alpha_within(298, allowed) == 1 / 299
    assert alpha_within(299, 0.01) == 1 / 300
    assert alpha_within(298, float(f"{smallest * 1.001:.6g}")) == 1 / 299


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, math.nan, 2.0])
def test_numbers_that_are_no_fractions(value: float) -> None:
    with pytest.raises(InputError, match=r"alpha: found .* allowed: between 0 and 1"):
        false_alarm_bound(100, value)
    with pytest.raises(InputError, match="confidence: found"):
        false_alarm_bound(100, 0.1, confidence=value)
    with pytest.raises(InputError, match="rate: found"):
        alpha_within(100, value)
    for number in (0, -1, 1.5, "x", None):
        with pytest.raises(InputError, match=f"calibration inputs: found {number!r}, allowed: a w"):
            alpha_within(number, 0.5)
    assert alpha_within(np.int64(100), 0.5) == alpha_within(100, 0.5)


def test_nothing_is_flagged_below_the_smallest_p_value() -> None:
    assert false_alarm_bound(99, 0.005) == 0


@pytest.mark.parametrize("rounded", [False, True])
def test_the_bound_covers_in_95_per_cent_of_calibration_sets(rounded: bool) -> None:
    """With ties, which are in favour of the input, in more."""
    sets, n, alpha = 2000, 200, 0.05
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(sets, n, generator=generator, dtype=torch.float64)
    bound = false_alarm_bound(n, alpha)
    if rounded:
        scores = (scores * 20).floor() / 20
        levels = torch.arange(20, dtype=torch.float64) / 20
        rates = [float((conformal_p_values(s, levels) <= alpha).double().mean()) for s in scores]
    else:  # the true rate is what lies above the k-th largest
        rates = (1 - scores.sort(dim=1).values[:, -10]).tolist()
    covered = np.mean(np.array(rates) <= bound)
    error = 3 * math.sqrt(0.95 * 0.05 / sets)
    assert covered >= 0.95 - error
    assert rounded or covered <= 0.95 + error


@pytest.mark.parametrize("bound", [0.0102549, 0.01, 0.0999999, 0.99951, 1e-7, 0.5])
def test_a_bound_is_rounded_up(bound: float) -> None:
    assert bound <= float(rounded_up(bound)) <= bound * 1.0101
    assert len(rounded_up(0.0102549)) == len("0.0103")


def test_excess_is_rarer_than_the_chance_and_sees_what_is_no_id() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        rates = rng.beta(50, 951)
        assert not excess(200, int(rng.binomial(200, rates)), 1000, 0.05, chance=1e-5)
    assert excess(200, 200, 1000, 0.05, chance=1e-3)
    assert excess(200, 40, 1000, 0.05, chance=1e-3)
    assert not excess(200, 15, 1000, 0.05, chance=1e-3)
    assert not excess(1, 1, 1000, 0.05, chance=1e-3)
    assert not excess(5, 0, 10, 0.05, chance=1e-3)
