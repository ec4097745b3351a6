"""Benjamini and Hochberg's selection against a loop, and its false discoveries by simulation."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import false_discovery_control

from nervecode.errors import InputError
from nervecode.scoring import conformal_p_values, select
from nervecode.scoring.mondrian import Mondrian


def by_loop(p_values: np.ndarray, rate: float) -> np.ndarray:
    ordered, largest = np.sort(p_values), -np.inf
    for i, p in enumerate(ordered, start=1):
        if p * len(ordered) <= rate * i:
            largest = p
    return p_values <= largest


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("rate", [0.05, 0.2, 0.7])
def test_selection_is_that_of_the_loop_and_of_scipy(seed: int, rate: float) -> None:
    rng = np.random.default_rng(seed)
    p = np.concatenate([rng.integers(1, 200, 150), np.ones(50), rng.integers(2, 9, 50)]) / 200
    found = select(torch.from_numpy(p), rate).numpy()
    np.testing.assert_array_equal(found, by_loop(p, rate))
    np.testing.assert_array_equal(found, false_discovery_control(p) <= rate)
    assert found.any()


def test_edges() -> None:
    assert not select(torch.ones(4), 0.9).any()
    assert select(torch.full((4,), 0.05, dtype=torch.float64), 0.05).all()
    assert select(torch.zeros(0), 0.5).shape == (0,)
    nan = torch.tensor([torch.nan, 0.01, 0.9])
    assert select(nan, 0.02).tolist() == [True, True, False]
    assert select(nan, 0.01).tolist() == [True, False, False]


@pytest.mark.parametrize(("n", "m", "count"), [(999, 900, 3), (299, 645, 43)])
def test_ties_with_the_rate_are_selected(n: int, m: int, count: int) -> None:
    rate = Fraction(m, (n + 1) * count)  # so that m p = rate i exactly
    p = torch.ones(m, dtype=torch.float64)
    p[:count] = 1 / (n + 1)
    assert select(p, float(rate)).sum() == count
    assert not select(p, float(rate) * (1 - 1e-6)).any()


def test_errors() -> None:
    for rate in (0.0, 1.0):
        with pytest.raises(
            InputError, match=rf"false-discovery rate: found {rate}, allowed: between 0 and"
        ):
            select(torch.ones(3), rate)
    with pytest.raises(InputError, match=r"p-values: found shape \(3, 1\), allowed: \(m,\)"):
        select(torch.ones(3, 1), 0.1)
    with pytest.raises(
        InputError, match=r"p-values: found ndarray, allowed: a tensor, as of torch.as"
    ):
        select(np.ones(3), 0.1)
    for value in (-1.0, 7.0, torch.inf):
        with pytest.raises(InputError, match=f"p-values: found {value}, allowed: 0 to 1, or NaN"):
            select(torch.tensor([0.1, value, torch.nan]), 0.1)
    for rate in ("0.1", None, torch.ones(2)):
        with pytest.raises(InputError, match=r"false-discovery rate: found .*, allowed: between 0"):
            select(torch.ones(3), rate)


@pytest.mark.slow
@pytest.mark.parametrize("outliers", [0, 20])
def test_few_of_the_selected_are_id(outliers: int) -> None:
    """Batches against a calibration set that all of their inputs share."""
    generator = torch.Generator().manual_seed(outliers)
    rate, id_inputs, repeats = 0.2, 80, 1500
    shares, power = [], []
    for _ in range(repeats):
        calibration = torch.randn(500, generator=generator)
        scores = torch.randn(id_inputs + outliers, generator=generator)
        scores[id_inputs:] += 3
        selected = select(conformal_p_values(calibration, scores), rate)
        shares.append(float(selected[:id_inputs].sum() / selected.sum().clamp_min(1)))
        power.append(float(selected[id_inputs:].double().mean()) if outliers else 1.0)
    error = 3 * np.std(shares) / repeats**0.5
    assert np.mean(shares) <= rate * id_inputs / (id_inputs + outliers) + error
    assert np.mean(power) > 0.5


def shares_of_id(sizes: list[int], spread: list[float], repeats: int) -> tuple[float, float]:
    """Mean share of ID inputs, all of a batch, among the selected within classes; its error."""
    generator = torch.Generator().manual_seed(7)
    of = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    scale, found = torch.tensor(spread), []
    for _ in range(repeats):
        scores = torch.randn(len(of), generator=generator).abs() * scale[of]
        new_of = of[torch.randint(len(of), (40,), generator=generator)]
        new = (torch.randn(40, generator=generator).abs() * scale[new_of]).double()
        groups = Mondrian.of(scores, of)
        found.append(float(select(groups.p_values(new, groups.group(new_of)), 0.2).any()))
    return float(np.mean(found)), float(np.std(found) / repeats**0.5)


@pytest.mark.slow
def test_within_classes_the_rate_is_kept_and_among_pooled_ones_it_is_not() -> None:
    """Every input is ID, so that any selection is a false one."""
    kept, error = shares_of_id([300, 200, 100], [1.0, 5.0, 1000.0], 1500)
    assert kept <= 0.2 + 3 * error
    broken, error = shares_of_id([300, 200, 50], [1.0, 5.0, 1000.0], 1500)
    assert broken > 0.2 + 3 * error
