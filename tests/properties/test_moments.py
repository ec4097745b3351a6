"""Streamed moments do not depend on how the data came; OAS is scikit-learn's."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import OAS

from nervecode.core import ClassMoments, Spectrum, oas


@st.composite
def partitions(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor, int, list[list[int]]]:
    """Data with labels, and its rows dealt to batches, some of them empty, in any order."""
    n, dim, k = draw(st.integers(2, 40)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    offset = 10.0 ** draw(st.integers(-2, 4))
    z = torch.randn(n, dim, generator=random, dtype=torch.float64) + offset
    labels = torch.randint(k, (n,), generator=random)
    hands = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n))
    batches = [[row for row in range(n) if hands[row] == hand] for hand in range(6)]
    return z, labels, k, draw(st.permutations(batches))


def assert_same(found: ClassMoments, expected: ClassMoments) -> None:
    assert torch.equal(found.counts, expected.counts)
    torch.testing.assert_close(found.means, expected.means, rtol=1e-9, atol=0)
    # Relative to the matrix: an entry that cancels to zero has no digits of its own.
    scale = 1 + expected.scatter.abs().max().item()
    torch.testing.assert_close(found.scatter, expected.scatter, rtol=1e-9, atol=1e-9 * scale)


@given(partitions())
def test_any_partition_in_any_order_gives_the_single_pass(case) -> None:
    z, labels, k, batches = case
    parts = [ClassMoments.of(z[rows], labels[rows], k) for rows in batches]
    assert_same(sum(parts, ClassMoments.empty(k, z.shape[1])), ClassMoments.of(z, labels, k))


@given(partitions())
def test_addition_is_associative(case) -> None:
    z, labels, k, batches = case
    a, b, c, *_ = (ClassMoments.of(z[rows], labels[rows], k) for rows in batches)
    assert_same((a + b) + c, a + (b + c))


@given(st.integers(0, 2**31), st.integers(2, 60), st.integers(2, 30))
def test_shrinkage_equals_scikit_learn(seed: int, n: int, dim: int) -> None:
    z = np.random.default_rng(seed).normal(size=(n, dim)) * np.linspace(0.1, 3, dim)
    moments = ClassMoments.of(torch.from_numpy(z), torch.zeros(n, dtype=torch.long), 1)
    expected = OAS().fit(z).covariance_
    values, vectors, _ = oas(Spectrum.of(moments.within, moments.within.trace(), dim), n)
    np.testing.assert_allclose((vectors * values) @ vectors.T, expected, rtol=1e-6, atol=1e-9)
