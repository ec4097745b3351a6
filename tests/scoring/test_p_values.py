"""Combined p-values against SciPy, and their promise under dependence."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import combine_pvalues, false_discovery_control, norm

from nervecode.errors import InputError
from nervecode.scoring import combine_p_values


@pytest.fixture
def p_values() -> np.ndarray:
    return np.random.default_rng(0).uniform(1e-4, 1, size=(40, 6))


def test_fisher_is_scipys(p_values: np.ndarray) -> None:
    expected = [combine_pvalues(row, method="fisher").pvalue for row in p_values]
    found = combine_p_values(torch.from_numpy(p_values), "fisher")
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_simes_is_the_smallest_benjamini_hochberg_value(p_values: np.ndarray) -> None:
    expected = [false_discovery_control(row).min() for row in p_values]
    np.testing.assert_allclose(combine_p_values(torch.from_numpy(p_values)), expected, rtol=1e-12)


def test_harmonic_by_hand(p_values: np.ndarray) -> None:
    expected = np.minimum(1, math.e * math.log(6) * 6 / (1 / p_values).sum(1))
    found = combine_p_values(torch.from_numpy(p_values), "harmonic")
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("method", ["fisher", "simes", "harmonic"])
def test_one_layer_is_itself_and_ones_stay_ones(method: str) -> None:
    p = torch.rand(9, 1, dtype=torch.float64).clamp_min(1e-6)
    torch.testing.assert_close(combine_p_values(p, method), p.squeeze(1))
    torch.testing.assert_close(
        combine_p_values(torch.ones(2, 5), method), torch.ones(2, dtype=torch.float64)
    )


@pytest.mark.parametrize("method", ["simes", "harmonic"])
def test_false_alarms_under_positive_dependence(method: str) -> None:
    random, draws = np.random.default_rng(1), 20000
    shared = random.normal(size=(draws, 1))
    p = norm.sf(0.8 * shared + 0.6 * random.normal(size=(draws, 5)))
    rate = (combine_p_values(torch.from_numpy(p), method) <= 0.05).double().mean().item()
    assert rate <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / draws)


@pytest.mark.parametrize("factor", [2.0, math.e * math.log(2)])
def test_harmonic_of_two_holds_in_the_worst_case(factor: float) -> None:
    """Small p-values that never fall together, and middling ones that mirror each other."""
    alpha = 0.05
    eps = alpha / factor  # the harmonic mean falls below this with probability 2 eps
    p = np.random.default_rng(2).permutation((np.arange(40000) + 0.5) / 40000)
    # Below eps/2 each is small alone; between eps/2 and 3/2 eps they mirror; the rest follows.
    low, high = p <= eps / 2, (p > 1.5 * eps) & (p <= 2 * eps)
    other = np.where((p > eps / 2) & (p <= 1.5 * eps), 2 * eps - p, p)
    other = np.where(low, p + 1.5 * eps, np.where(high, p - 1.5 * eps, other))
    np.testing.assert_allclose(np.sort(other), np.sort(p), rtol=0, atol=1e-4)  # uniform too
    found = combine_p_values(torch.from_numpy(np.stack([p, other], 1)), "harmonic")
    rate = (found <= alpha).double().mean().item()
    assert 0.8 * alpha < rate <= alpha + 4 / 40000


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: combine_p_values(torch.rand(2, 3), "fischer"), "did you mean 'fisher'"),
        (lambda: combine_p_values(torch.rand(3)), r"found shape \(3,\), allowed: \(N, L\)"),
        (lambda: combine_p_values(torch.zeros(2, 3)), r"outside \(0, 1\]"),
        (lambda: combine_p_values(torch.full((2, 3), 1.01)), r"outside \(0, 1\]"),
        (lambda: combine_p_values(torch.full((2, 3), math.nan)), r"outside \(0, 1\]"),
    ],
)
def test_errors(call, text: str) -> None:
    with pytest.raises(InputError, match=text):
        call()
