"""Fitted codes against explicit Gaussians: SciPy densities, scikit-learn's shrinkage."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from sklearn.covariance import OAS

from nervecode.core import ClassMoments, GaussianCode
from nervecode.core.precision import Precision
from nervecode.errors import InputError, NotReadyError
from tests.core.test_moments import data, moments_of


def covariance(z: np.ndarray, labels: np.ndarray, rank: int) -> np.ndarray:
    """Shrunk covariance within classes; beyond the leading directions the variances are equal."""
    used = np.unique(labels)
    means = np.stack([z[labels == k].mean(0) for k in used])
    centred = z - means[np.searchsorted(used, labels)]
    within = OAS(assume_centered=True).fit(centred).covariance_
    values, vectors = np.linalg.eigh(
        within + 1e-6 * np.trace(within) / len(within) * np.eye(len(within))
    )
    if rank < len(values):
        values[:-rank] = values[:-rank].mean()
    return vectors @ np.diag(values) @ vectors.T


def oracle(z: np.ndarray, labels: np.ndarray, x: np.ndarray, rank: int) -> tuple[np.ndarray, ...]:
    """(bits, regret) of x by explicit Gaussians."""
    used = np.unique(labels)
    means = np.stack([z[labels == k].mean(0) for k in used])
    priors = np.array([(labels == k).mean() for k in used])
    within = covariance(z, labels, rank)
    spread = means - z.mean(0)
    background = within + (priors[:, None] * spread).T @ spread
    densities = [multivariate_normal(mean, within).logpdf(x) for mean in means]
    joint = np.stack(densities, axis=1) + np.log(priors)
    bits = -np.logaddexp.reduce(joint, axis=1) / math.log(2)
    return bits, bits + multivariate_normal(z.mean(0), background).logpdf(x) / math.log(2)


@pytest.mark.parametrize("rank", [1, 3, 128])
@pytest.mark.parametrize(("dim", "k"), [(6, 3), (3, 8), (5, 1), (10, 10)])
def test_codes_are_explicit_gaussians(dim: int, k: int, rank: int) -> None:
    z, labels = data(400, dim, k)
    x = 2 * np.random.default_rng(1).normal(size=(60, dim)) + z[:60]
    bits, regret, code = GaussianCode.fit(moments_of(z, labels, k), rank=rank)(
        torch.from_numpy(x).float()
    )
    expected_bits, expected_regret = oracle(z, labels, x, rank)
    torch.testing.assert_close(code.bits, bits, rtol=1e-4, atol=2e-3)
    np.testing.assert_allclose(bits, expected_bits, rtol=2e-4, atol=2e-3)
    np.testing.assert_allclose(regret, expected_regret, rtol=2e-3, atol=5e-3)


def test_what_the_background_saves_takes_no_more_directions_than_there_are() -> None:
    """Of K classes in fewer dimensions, a product with K x D numbers and not K x K."""
    z, labels = data(400, 3, 8)
    codes = GaussianCode.fit(moments_of(z, labels, 8))
    assert codes.saving.shape == (8, 3)
    again = GaussianCode(8, 3, 3, between=3)
    again.load_state_dict(codes.state_dict())
    x = torch.from_numpy(z).float()
    torch.testing.assert_close(again(x).regret, codes(x).regret)
    assert GaussianCode(8, 3, 3).saving.shape == (8, 8)  # as in files from before


@pytest.mark.parametrize("rank", [1, 4, 128])
def test_whitened_rows_have_the_lengths_of_their_metric(rank: int) -> None:
    z, labels = data(200, 6, 3)
    precision = Precision.within(moments_of(z, labels, 3), rank)
    rows = torch.from_numpy(z)
    whitened = precision.whiten(rows)
    torch.testing.assert_close(whitened @ whitened.T, rows @ precision.times(rows).T)
    # Once more is Lambda itself, so that it is the symmetric root.
    torch.testing.assert_close(precision.whiten(whitened), precision.times(rows))


@pytest.mark.parametrize("rank", [2, 128])
def test_the_codes_price_the_input_and_the_classes_alone_the_regret(rank: int) -> None:
    z, labels = data(400, 6, 3)
    finer = 4 * labels + np.random.default_rng(2).integers(4, size=len(labels))
    codes = GaussianCode.fit(moments_of(z, labels, 3), rank=rank, codes=moments_of(z, finer, 12))
    assert (codes.num_codes, codes.num_classes, codes.rank) == (12, 3, min(rank, 6))
    x = 2 * np.random.default_rng(1).normal(size=(60, 6)) + z[:60]
    bits, regret, code = codes(torch.from_numpy(x).float())
    np.testing.assert_allclose(bits, oracle(z, finer, x, rank)[0], rtol=2e-4, atol=2e-3)
    np.testing.assert_allclose(regret, oracle(z, labels, x, rank)[1], rtol=2e-3, atol=5e-3)
    parts = code.index_bits + code.residual_bits - code.bits_back
    torch.testing.assert_close(parts, bits, rtol=1e-4, atol=2e-3)


def test_bits_back_identity_holds_for_the_fitted_code() -> None:
    z, labels = data(300, 6, 4)
    _, _, code = GaussianCode.fit(moments_of(z, labels, 4))(torch.from_numpy(z).float())
    parts = code.index_bits + code.residual_bits - code.bits_back
    torch.testing.assert_close(parts, code.bits, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(code.probs.sum(1), torch.ones(300))


def test_regret_keeps_its_digits_where_both_codes_are_long() -> None:
    """Without class differences both codes grow alike, and regret is their difference."""
    z, labels = data(400, 4, 1)
    far = torch.zeros(2, 4)
    far[1, 0] = 1e6
    _, regret, _ = GaussianCode.fit(moments_of(z, labels, 1))(far)
    torch.testing.assert_close(regret, torch.zeros(2), atol=1e-5, rtol=0)


def test_regret_of_an_input_between_the_classes_is_high_and_at_a_centre_is_low() -> None:
    random = np.random.default_rng(0)
    labels = np.arange(400) % 2
    z = random.normal(size=(400, 3)) + np.array([[-8.0, 0, 0], [8.0, 0, 0]])[labels]
    points = torch.tensor([[0.0, 0, 0], [8.0, 0, 0], [-8.0, 0, 0]])
    _, regret, _ = GaussianCode.fit(moments_of(z, labels, 2))(points)
    assert regret[0] > 10 > 0 > regret[1:].max()


def test_an_empty_class_has_no_centre() -> None:
    z, labels = data(100, 4, 2)
    codes = GaussianCode.fit(moments_of(z, 2 * labels, 5))
    assert codes.num_codes == 2
    np.testing.assert_allclose(codes.log_priors.exp(), np.bincount(labels) / 100, rtol=1e-6)


def test_one_input_and_no_rank_are_not_enough() -> None:
    one = ClassMoments.of(torch.zeros(1, 2), torch.tensor([0]), 1)
    with pytest.raises(NotReadyError, match="found 1 inputs, a code needs at least 2"):
        GaussianCode.fit(one)
    two = ClassMoments.of(torch.randn(2, 2), torch.tensor([0, 0]), 1)
    assert GaussianCode.fit(two)(torch.randn(3, 2)).bits.isfinite().all()
    with pytest.raises(InputError, match="rank: found 0, allowed: at least 1"):
        GaussianCode.fit(two, rank=0)


def test_a_vector_of_another_width_is_named() -> None:
    codes = GaussianCode.fit(
        ClassMoments.of(torch.randn(9, 3), torch.zeros(9, dtype=torch.long), 1)
    )
    with pytest.raises(InputError, match=r"vectors: found \(2, 4\), allowed: \(B, 3\)"):
        codes(torch.zeros(2, 4))


@pytest.mark.parametrize(("classes", "dim"), [(100, 32), (200, 64), (100, 4), (20, 4)])
def test_many_classes_without_any_spread_have_codes(classes: int, dim: int) -> None:
    """The distances between them are so many deviations that no digit is left of one."""
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(0))
    z, labels = centres.repeat(5, 1).numpy(), torch.arange(classes).repeat(5).numpy()
    moments = moments_of(z, labels, classes)
    bits, regret, _ = GaussianCode.fit(moments)(torch.cat([centres, centres + 1]))
    assert bits.isfinite().all() and regret.isfinite().all()
    assert bits[:classes].max() < bits[classes:].min()
