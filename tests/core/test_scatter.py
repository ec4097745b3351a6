"""Scatters and their sketches: the spectrum against NumPy's, shrinkage against scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.covariance import OAS
from torch import Tensor

from nervecode.core import ClassMoments, GaussianCode, Spectrum, oas
from nervecode.core.moments import MomentStream
from nervecode.core.precision import Precision
from nervecode.core.scatter import SKETCH, add_product, columns, product, sketch_of, symmetric

DIM, RANK = 3 * SKETCH, 8


def falling(inputs: int, dim: int = DIM, *, power: float = 1.0) -> Tensor:
    """Vectors whose variances fall as 1 / i^(2 power), in turned axes."""
    random = torch.Generator().manual_seed(0)
    axes = torch.linalg.qr(torch.randn(dim, dim, generator=random, dtype=torch.float64)).Q
    scales = torch.arange(1, dim + 1, dtype=torch.float64) ** -power
    return torch.randn(inputs, dim, generator=random, dtype=torch.float64) * scales @ axes


def whole(spectrum: Spectrum) -> Tensor:
    """The (D, D) matrix of a spectrum that has all its vectors."""
    return (spectrum.vectors * spectrum.values) @ spectrum.vectors.T


def test_a_matrix_is_kept_whole_up_to_twice_the_sketch() -> None:
    assert columns(2 * SKETCH, SKETCH) == 2 * SKETCH
    assert columns(2 * SKETCH + 1, SKETCH) == SKETCH
    assert sketch_of(SKETCH) == 2 * SKETCH
    assert sketch_of(1) == SKETCH


@pytest.mark.parametrize("dim", [5, 2 * SKETCH])
def test_a_whole_scatter_has_numpys_spectrum(dim: int) -> None:
    z = falling(300, dim)
    upper = torch.zeros(dim, dim, dtype=torch.float64)
    add_product(upper, z[:100])
    add_product(upper, z[100:])
    scatter = symmetric(upper)
    torch.testing.assert_close(scatter, z.T @ z, rtol=1e-12, atol=1e-9)
    values, vectors, rest = Spectrum.of(scatter, scatter.trace(), 4)
    np.testing.assert_allclose(values, np.linalg.eigvalsh(z.T @ z), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(scatter @ vectors, vectors * values[-4:], rtol=1e-8, atol=1e-9)
    assert vectors.shape == (dim, 4)
    assert rest == 0


def test_a_sketch_knows_the_leading_directions() -> None:
    z = falling(2000)
    scatter = z.T @ z
    values, vectors, rest = Spectrum.of(product(z, SKETCH), scatter.trace(), RANK)
    expected, axes = torch.linalg.eigh(scatter)
    torch.testing.assert_close(values[-RANK:], expected[-RANK:], rtol=2e-3, atol=0)
    overlap = torch.linalg.svdvals(vectors.T @ axes[:, -RANK:])
    assert overlap.amin() > 0.99
    torch.testing.assert_close(vectors.T @ vectors, torch.eye(RANK).double(), rtol=0, atol=1e-6)
    trace = values.sum() + (DIM - SKETCH) * rest
    torch.testing.assert_close(trace, scatter.trace())


def test_a_sketch_of_few_vectors_is_exact() -> None:
    """What has no more dimensions than the sketch has columns is known completely."""
    z = falling(SKETCH // 4)
    values, vectors, rest = Spectrum.of(product(z, SKETCH), z.square().sum(), len(z))
    expected = torch.linalg.svdvals(z).square().flip(0)
    torch.testing.assert_close(values[-len(z) :], expected, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close((vectors * values[-len(z) :]) @ (vectors.T @ z.T), z.T @ (z @ z.T))
    assert rest < 1e-6 * expected[0]


def test_sketches_of_parts_add_to_that_of_all() -> None:
    z = falling(900).float()
    y = torch.arange(900) % 3
    parts = [ClassMoments.of(z[i::4], y[i::4], 3) for i in range(4)]
    summed, expected = sum(parts[1:], parts[0]), ClassMoments.of(z, y, 3)
    for name, tensor in vars(expected).items():
        scale = tensor.abs().max().item()
        torch.testing.assert_close(getattr(summed, name), tensor, rtol=0, atol=1e-6 * scale)


def test_the_code_of_a_sketch_prices_as_that_of_the_whole() -> None:
    z = falling(3000, power=0.7) + 0.1
    y = torch.arange(3000) % 2
    stream = MomentStream(2, DIM, sketch=DIM)
    stream.add(z, y)
    exact = GaussianCode.fit(stream.moments)
    sketched = GaussianCode.fit(ClassMoments.of(z, y, 2))
    probe = torch.cat([z[:200], 1.2 * z[:200]]).float()
    (bits, *_), (expected, *_) = sketched(probe), exact(probe)
    assert torch.corrcoef(torch.stack([bits, expected]))[0, 1] > 0.99
    assert (bits - expected)[:200].abs().amax() < 0.05 * expected[:200].abs().amax()


@pytest.mark.parametrize("value", [0.0, 1.0, -3e4])
def test_constant_wide_vectors_have_a_finite_code(value: float) -> None:
    z, y = torch.full((40, DIM), value), torch.arange(40) % 2
    precision = Precision.within(ClassMoments.of(z, y, 2))
    assert precision.isotropic.isfinite()
    assert precision.log_det.isfinite()
    assert precision.directions.isfinite().all()


@pytest.mark.parametrize(("n", "dim"), [(300, 4), (30, 20), (10, 40), (50, 1)])
def test_oas_is_that_of_scikit_learn(n: int, dim: int) -> None:
    z = falling(n, dim).numpy() + 2
    reference = OAS().fit(z).covariance_
    within = ClassMoments.of(torch.from_numpy(z), torch.zeros(n, dtype=torch.long), 1).within
    shrunk = whole(oas(Spectrum.of(within, within.trace(), dim), n))
    np.testing.assert_allclose(shrunk, reference, rtol=1e-6, atol=1e-6 * np.abs(reference).max())


def test_oas_counts_the_values_that_a_spectrum_sums_up() -> None:
    values = torch.cat([torch.full((30,), 0.5), torch.tensor([2.0, 3.0])]).double()
    vectors = torch.eye(32).double()[:, -2:]
    whole_of = oas(Spectrum(values, vectors, torch.zeros(()).double()), 50)
    short = oas(Spectrum(values[-2:], vectors, values[0]), 50)
    torch.testing.assert_close(short.values, whole_of.values[-2:])
    torch.testing.assert_close(short.rest, whole_of.values[0])


def test_oas_of_nothing_is_nothing() -> None:
    nothing = torch.zeros(3, 3, dtype=torch.float64)
    assert oas(Spectrum.of(nothing, nothing.trace(), 3), 10).values.abs().max() == 0
