"""Moments of parts, sketches of wide ones and the precision behind them, against the page."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nervecode.core import ClassMoments, Spectrum, oas
from nervecode.core.precision import Precision
from nervecode.core.scatter import _inverse_root, _signs, product
from tests.mathematics.oracle import Array, class_means, code_covariance

N, D, S, RANK = 40, 20, 6, 3  # D > 2 S: what is kept is a sketch


def wide(seed: int = 0, *, inputs: int = N) -> Array:
    random = np.random.default_rng(seed)
    return random.normal(size=(inputs, D)) * np.arange(1, D + 1) ** -1.0 + 0.5


def test_two_sets_merge_as_the_page_says() -> None:
    labels = np.arange(N) % 3
    z, cut = wide(), 11
    parts = [(z[:cut], labels[:cut]), (z[cut:], labels[cut:])]
    found = sum(
        (ClassMoments.of(torch.tensor(x), torch.tensor(y), 3) for x, y in parts),
        ClassMoments.empty(3, D),
    )
    (m_a, _), (m_b, _) = (class_means(*part) for part in parts)
    a, b = (np.bincount(y, minlength=3) for _, y in parts)
    scatters = [
        sum(np.outer(row - m[k], row - m[k]) for row, k in zip(*part, strict=True))
        for part, m in zip(parts, (m_a, m_b), strict=True)
    ]
    total = scatters[0] + scatters[1]
    for k in range(3):
        step = m_b[k] - m_a[k]
        total = total + a[k] * b[k] / (a[k] + b[k]) * np.outer(step, step)
        np.testing.assert_allclose(found.means[k], m_a[k] + b[k] / (a[k] + b[k]) * step)
    np.testing.assert_allclose(found.counts, a + b)
    np.testing.assert_allclose(found.scatter, total, atol=1e-9)
    assert found.power.item() == pytest.approx(np.trace(total))
    np.testing.assert_allclose(found.within, total / N, atol=1e-9)
    np.testing.assert_allclose(found.mean, z.mean(0))
    zero = found.about_zero
    np.testing.assert_allclose(zero.scatter, z.T @ z, atol=1e-9)
    assert zero.power.item() == pytest.approx((z**2).sum())


def sketched(y: Array, omega: Array, trace: float) -> tuple[Array, Array, float]:
    """(S,) eigenvalues, (D, S) vectors and the mean of the others, from Y = A Omega."""
    mu, p = np.linalg.eigh(omega.T @ y)
    alive = mu > 1e-7 * mu.max()
    c = p[:, alive] / np.sqrt(mu[alive])
    e, q = np.linalg.eigh(c.T @ (y.T @ y) @ c)
    kept = e > 1e-7 * e.max()
    vectors = y @ c @ q[:, kept] / np.sqrt(e[kept])
    return e[kept], vectors, (trace - e[kept].sum()) / (D - kept.sum())


def dense(values: Array, vectors: Array, rest: float) -> Array:
    """The matrix with these eigenvalues, and `rest` in all other directions."""
    others = np.eye(D) - vectors @ vectors.T
    return vectors @ np.diag(values) @ vectors.T + rest * others


@pytest.mark.parametrize("inputs", [4, N])
def test_a_sketch_is_the_nystroem_approximation(inputs: int) -> None:
    z = wide(1, inputs=inputs)
    scatter = z.T @ z
    omega = _signs(D, S, torch.device("cpu")).double().numpy()
    assert set(np.unique(omega)) == {-1, 1}
    y = product(torch.tensor(z), S)
    np.testing.assert_allclose(y, scatter @ omega)
    trace = float(np.trace(scatter)) + 7  # the others have what the sketch leaves of it
    found = Spectrum.of(y, torch.tensor(trace, dtype=torch.float64), S)
    e, vectors, rest = sketched(y.numpy(), omega, trace)
    assert len(e) == min(inputs, S)
    np.testing.assert_allclose(found.values[-len(e) :], e, rtol=1e-9)
    assert found.rest.item() == pytest.approx(rest)
    np.testing.assert_allclose(
        found.vectors[:, -len(e) :] @ found.vectors[:, -len(e) :].T, vectors @ vectors.T, atol=1e-7
    )


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_direction_is_dead_below_a_ten_millionth_of_the_largest(scale: float) -> None:
    values = scale * torch.tensor([-1e-9, 0.9e-7, 1.1e-7, 1.0], dtype=torch.float64)
    expected = [0, 0, (1.1e-7 * scale) ** -0.5, scale**-0.5]
    np.testing.assert_allclose(_inverse_root(values), expected)


def spectrum(rank: int) -> Spectrum:
    """S eigenvalues of a sketch with room for the others, ascending."""
    values = torch.tensor([0.3, 0.4, 0.7, 1.0, 2.0, 5.0], dtype=torch.float64)
    vectors = torch.linalg.qr(torch.tensor(wide(2)[:D, :rank])).Q
    return Spectrum(values, vectors, torch.tensor(0.2, dtype=torch.float64))


def test_shrinkage_counts_the_directions_of_the_rest() -> None:
    values, _, rest = spectrum(RANK)
    every = np.concatenate([values.numpy(), np.full(D - S, rest.item())])
    mu, alpha = every.mean(), (every**2).sum() / D**2
    rho = min(1.0, (alpha + mu**2) / ((N + 1) * (alpha - mu**2 / D)))
    assert 0 < rho < 1
    found = oas(spectrum(RANK), N)
    np.testing.assert_allclose(found.values, (1 - rho) * values.numpy() + rho * mu)
    assert found.rest.item() == pytest.approx((1 - rho) * 0.2 + rho * mu)


@pytest.mark.parametrize("power", [0.0, 1e9])
def test_a_precision_is_the_inverse_of_the_covariance_of_the_page(power: float) -> None:
    """Of the leading directions each its own variance, of all others their mean; with a floor."""
    values, vectors, rest = spectrum(RANK)
    every = np.concatenate([values.numpy(), np.full(D - S, rest.item())])
    floor = max(1e-6 * every.mean(), 2.0**-46 * power, 1e-20)
    every = every + floor
    own = values[-RANK:].numpy() + floor
    shared = (every.sum() - own.sum()) / (D - RANK)
    covariance = dense(own, vectors.numpy(), shared)
    precision = Precision(spectrum(RANK), power=torch.tensor(power, dtype=torch.float64))
    found = precision.times(torch.eye(D, dtype=torch.float64))
    np.testing.assert_allclose(found, np.linalg.inv(covariance), atol=1e-9)
    assert precision.log_det.item() == pytest.approx(-np.linalg.slogdet(covariance).logabsdet)
    assert precision.isotropic.item() == pytest.approx(1 / shared)
    assert precision.sign.item() == -1


def test_the_floor_grows_with_the_mean_square_of_the_mean() -> None:
    """Of vectors far from zero, beside which their variance is below rounding to float32."""
    z = 1e4 + 1e-4 * np.random.default_rng(3).normal(size=(N, D)) * np.arange(1, D + 1)
    labels = np.arange(N) % 2
    found = Precision.within(ClassMoments.of(torch.tensor(z), torch.tensor(labels), 2), D)
    expected = code_covariance(z, labels, z.mean(0), D)
    floor = (2.0**-23) ** 2 * (z.mean(0) @ z.mean(0)) / D
    assert floor > 1e-6 * np.trace(expected) / D  # the first term is the smaller one
    inverse = found.times(torch.eye(D, dtype=torch.float64))
    np.testing.assert_allclose(inverse, np.linalg.inv(expected), rtol=1e-5, atol=1e-3)
    assert found.log_det.item() == pytest.approx(-np.linalg.slogdet(expected).logabsdet)


def test_of_nothing_the_floor_is_left() -> None:
    nothing = Spectrum(torch.zeros(4).double(), torch.eye(4).double(), torch.zeros(()).double())
    precision = Precision(nothing, power=torch.zeros(()).double())
    assert precision.log_det.item() == pytest.approx(-4 * math.log(1e-20))
