"""Moments, against NumPy."""

import math

import numpy as np
import pytest
import torch

from nervecode.core import ClassMoments
from nervecode.core.scatter import SKETCH
from nervecode.errors import InputError


def data(n: int = 200, dim: int = 5, k: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(k, size=n)
    mixing = random.normal(size=(dim, dim))
    return random.normal(size=(n, dim)) @ mixing + 3 * random.normal(size=(k, dim))[labels], labels


def moments_of(z: np.ndarray, labels: np.ndarray, k: int) -> ClassMoments:
    return ClassMoments.of(torch.from_numpy(z), torch.from_numpy(labels), k)


def test_moments_are_those_of_numpy() -> None:
    z, labels = data()
    found = moments_of(z, labels, 3)
    means = np.stack([z[labels == k].mean(0) for k in range(3)])
    np.testing.assert_array_equal(found.counts, np.bincount(labels))
    np.testing.assert_allclose(found.means, means, rtol=1e-12)
    np.testing.assert_allclose(found.mean, z.mean(0), rtol=1e-12)
    centred = z - means[labels]
    np.testing.assert_allclose(found.within, centred.T @ centred / len(z), rtol=1e-10)
    about_zero = found.about_zero
    np.testing.assert_allclose(about_zero.scatter, z.T @ z, rtol=1e-10)
    for moments in (found, about_zero):
        assert moments.power.item() == pytest.approx(moments.scatter.trace().item())


def test_streaming_keeps_precision_far_from_the_origin() -> None:
    """Sums of squares would lose every digit here: mean 1e8, deviation 1."""
    z, labels = data(dim=2, k=1)
    far = moments_of(z + 1e8, labels, 1)
    np.testing.assert_allclose(far.within, moments_of(z, labels, 1).within, rtol=1e-6)


def test_memory_is_that_of_the_moments() -> None:
    found = moments_of(*data(n=5000), 3)
    assert [tuple(t.shape) for t in vars(found).values()] == [(3,), (3, 5), (5, 5), ()]
    z, labels = data(n=20, dim=600)
    assert moments_of(z, labels, 3).scatter.shape == (600, SKETCH)


@pytest.mark.parametrize(
    ("vectors", "groups", "text"),
    [
        (torch.zeros(3), torch.zeros(3, dtype=torch.long), r"vectors \(3,\)"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), r"groups \(2,\)"),
        (torch.full((2, 2), math.nan), torch.tensor([0, 1]), "NaN or infinity"),
        (torch.full((2, 2), math.inf), torch.tensor([0, 1]), "NaN or infinity"),
        (torch.zeros(2, 2), torch.tensor([0, 3]), r"labels: found 0 to 3, allowed: 0 to 2"),
        (
            torch.zeros(2, 2),
            torch.tensor([1, 3]),
            "labels: found 1 to 3, allowed: 0 to 2; where they count from 1, pass labels - 1",
        ),
        (torch.zeros(2, 2), torch.tensor([1, 4]), r"labels: found 1 to 4, allowed: 0 to 2$"),
        (torch.zeros(2, 2), torch.tensor([-1, 0]), r"labels: found -1 to 0"),
        (torch.zeros(2, 2), torch.tensor([0.0, 0.5]), r"labels: found torch.float32"),
    ],
)
def test_a_bad_batch_is_named(vectors, groups, text: str) -> None:
    with pytest.raises(InputError, match=text):
        ClassMoments.of(vectors, groups, 3)


def test_labels_of_any_whole_type_are_indices() -> None:
    z = torch.randn(6, 2)
    wide, narrow = torch.tensor([0, 1, 2, 0, 1, 2]), torch.tensor([0, 1, 2, 0, 1, 2]).byte()
    assert torch.equal(ClassMoments.of(z, wide, 3).means, ClassMoments.of(z, narrow, 3).means)


def test_moments_of_different_shapes_do_not_add() -> None:
    with pytest.raises(InputError, match=r"cannot add \(2, 3\) to \(2, 4\)"):
        ClassMoments.empty(2, 4) + ClassMoments.empty(2, 3)
    with pytest.raises(InputError, match=r"cannot add \(600, 280\) to \(600, 256\)"):
        ClassMoments.empty(2, 600, sketch=256) + ClassMoments.empty(2, 600, sketch=280)
