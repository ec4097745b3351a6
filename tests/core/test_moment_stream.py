"""MomentStream: the same moments as one batch of all data, whatever the batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from nervecode.core.moments import BUFFER, SMALLEST_BUFFER, ClassMoments, MomentStream
from nervecode.core.scatter import EXACT, product
from nervecode.errors import InputError


def data(inputs: int, dim: int, groups: int) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(inputs + dim)
    y = torch.randint(groups, (inputs,), generator=random)
    return torch.randn(inputs, dim, generator=random) + 30 * y.unsqueeze(1), y


def streamed(z: Tensor, y: Tensor, groups: int, sizes: int) -> ClassMoments:
    stream = MomentStream(groups, z.shape[1])
    for vectors, labels in zip(z.split(sizes), y.split(sizes), strict=True):
        stream.add(vectors, labels)
    return stream.moments


@pytest.mark.parametrize("sizes", [7, 256, 900, 3000])
@pytest.mark.parametrize("dim", [3, EXACT, 2048])  # one strip, several, and several buffers
def test_equals_numpy(dim: int, sizes: int) -> None:
    assert BUFFER // 2048 == SMALLEST_BUFFER  # 700 inputs fill this buffer more than twice
    z, y = data(700, dim, 4)
    exact = 1e-12 if dim <= EXACT else 1e-6
    found = streamed(z, y, 5, sizes)
    x, labels = z.double().numpy(), y.numpy()
    means = np.stack([x[labels == k].mean(0) for k in range(4)])
    centred = x - means[labels]
    assert found.counts.tolist() == [*np.bincount(labels), 0]
    np.testing.assert_allclose(found.means[:4], means, rtol=1e-12)
    expected = product(torch.from_numpy(centred), found.scatter.shape[1]).numpy()
    np.testing.assert_allclose(found.scatter, expected, rtol=0, atol=exact * np.abs(expected).max())
    assert found.power.item() == pytest.approx(np.square(centred).sum(), rel=exact)
    if dim < 2048:
        assert torch.equal(found.scatter, found.scatter.T)


def test_reading_does_not_end_the_stream() -> None:
    z, y = data(300, 6, 3)
    stream = MomentStream(3, 6)
    stream.add(z[:100], y[:100])
    before = stream.moments
    stream.add(z[100:], y[100:])
    after, whole = stream.moments, ClassMoments.of(z, y, 3)
    assert before.total == 100
    torch.testing.assert_close(before.scatter, ClassMoments.of(z[:100], y[:100], 3).scatter)
    torch.testing.assert_close(after.scatter, whole.scatter, rtol=1e-11, atol=1e-9)
    torch.testing.assert_close(after.means, whole.means, rtol=1e-12, atol=1e-12)


def test_keeps_nothing_of_the_callers_tensors() -> None:
    z, y = data(50, 4, 2)
    expected, stream = ClassMoments.of(z, y, 2), MomentStream(2, 4)
    given, labels = z.clone(), y.clone()
    stream.add(given, labels)
    given.fill_(1e9)
    labels.zero_()
    torch.testing.assert_close(stream.moments.scatter, expected.scatter)


def test_no_data_are_the_neutral_element() -> None:
    z, y = data(20, 3, 2)
    none, some = MomentStream(2, 3).moments, ClassMoments.of(z, y, 2)
    assert torch.equal((none + some).scatter, some.scatter)
    assert none.total == 0


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_refuses_what_is_not_finite(bad: float) -> None:
    z, y = data(20, 3, 2)
    z[7, 1] = bad
    stream = MomentStream(2, 3)
    with pytest.raises(InputError, match="NaN or infinity"):
        stream.add(z, y)
        _ = stream.moments


def test_refuses_labels_out_of_range_at_once() -> None:
    z, y = data(20, 3, 2)
    with pytest.raises(InputError, match="labels: found 0 to 1, allowed: 0 to 0"):
        MomentStream(1, 3).add(z, y)
