"""Several centres per class: k-means against scikit-learn's on whitened vectors."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from nervecode.core import ClassMoments
from nervecode.core import centres as module
from nervecode.core.centres import LEAST, SAMPLE, STEPS, Reservoir, k_means, several_codes
from nervecode.core.precision import Precision

DIM, CLUSTERS = 3, 4


def data(n: int = 400) -> tuple[Tensor, Tensor]:
    random = np.random.default_rng(0)
    labels = random.integers(2, size=n)
    spots = 4 * random.normal(size=(2, CLUSTERS, DIM))
    z = spots[labels, random.integers(CLUSTERS, size=n)] + random.normal(size=(n, DIM))
    return torch.from_numpy(z * [1.0, 5.0, 0.2]), torch.from_numpy(labels)


def sampled(z: Tensor, labels: Tensor, classes: int = 2) -> tuple[ClassMoments, Reservoir]:
    reservoir = Reservoir(classes)
    reservoir.add(z, labels)
    return ClassMoments.of(z, labels, classes), reservoir


def whiten(precision: Precision) -> np.ndarray:
    """W with W W' = Lambda."""
    return np.linalg.cholesky(precision.times(torch.eye(DIM, dtype=torch.float64)).numpy())


def test_k_means_is_that_of_scikit_learn_on_whitened_vectors() -> None:
    z, labels = data()
    precision = Precision.within(ClassMoments.of(z, labels, 2))
    own = [z[labels == 0], z[labels == 1]]
    rows = torch.zeros(2, max(map(len, own)), DIM, dtype=torch.float64)
    for k, vectors in enumerate(own):
        rows[k, : len(vectors)] = vectors
    sizes, numbers = (
        torch.tensor([len(own[0]), len(own[1])]),
        torch.tensor([CLUSTERS - 1, CLUSTERS]),
    )
    found = k_means(rows, sizes, numbers, precision)
    for k, number in enumerate(numbers.tolist()):
        x = own[k].numpy() @ whiten(precision)
        reference = KMeans(number, init=x[:number], n_init=1, max_iter=STEPS, tol=0).fit(x)
        np.testing.assert_array_equal(found[k, : len(x)], reference.labels_)


def test_codes_are_the_clusters_of_each_class() -> None:
    z, labels = data()
    moments, reservoir = sampled(z, labels)
    precision = Precision.within(moments)
    codes = several_codes(moments, reservoir, CLUSTERS, precision)
    clusters = torch.empty_like(labels)
    for group in range(2):
        own = labels == group
        sizes, numbers = own.sum().view(1), torch.tensor([CLUSTERS])
        clusters[own] = CLUSTERS * group + k_means(z[own][None], sizes, numbers, precision)[0]
    expected = ClassMoments.of(z, clusters, 2 * CLUSTERS)
    for name, tensor in vars(expected).items():
        torch.testing.assert_close(getattr(codes, name), tensor, msg=name)


def test_a_sample_speaks_for_all_inputs_of_its_class() -> None:
    z, labels = data(4 * SAMPLE)
    labels = labels * (torch.arange(len(z)) % 3 == 0)  # five times as many of class 0
    moments, reservoir = sampled(z, labels)
    codes = several_codes(moments, reservoir, CLUSTERS, Precision.within(moments))
    shares = codes.counts.view(2, CLUSTERS).sum(1) / codes.counts.sum()
    torch.testing.assert_close(shares, moments.counts / moments.counts.sum())
    assert codes.total == SAMPLE


def test_a_class_with_few_inputs_keeps_its_mean_and_an_empty_one_has_none() -> None:
    z, _ = data()
    labels = torch.zeros(len(z), dtype=torch.long)
    labels[-2 * LEAST + 1 :] = 2
    moments, reservoir = sampled(z, labels, classes=4)
    codes = several_codes(moments, reservoir, CLUSTERS, Precision.within(moments))
    assert len(codes.counts) == CLUSTERS + 1
    torch.testing.assert_close(codes.means[-1], moments.means[2])


def test_no_class_with_enough_inputs_has_several_codes() -> None:
    z, labels = data(2 * LEAST)
    moments, reservoir = sampled(z, labels)
    assert several_codes(moments, reservoir, CLUSTERS, Precision.within(moments)) is None


def test_a_cluster_that_runs_empty_is_no_code() -> None:
    z = torch.full((10 * LEAST, DIM), 2.0, dtype=torch.float64)
    moments, reservoir = sampled(z, torch.arange(len(z)) % 2)
    assert several_codes(moments, reservoir, CLUSTERS, Precision.within(moments)) is None


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_a_reservoir_holds_the_first_of_each_class(
    batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLE", 40)
    z, labels = data(100)
    labels[:30] = 0  # a class that comes late
    first, second = Reservoir(2), Reservoir(2)
    for reservoir, part in ((first, slice(0, 50)), (second, slice(50, 100))):
        for x, y in zip(z[part].split(batch), labels[part].split(batch), strict=True):
            reservoir.add(x, y)
    first.add(*second.held(z))
    held, groups = first.held(z)
    for group in range(2):
        assert torch.equal(held[groups == group], z[labels == group][:20])


def test_nothing_is_kept_where_no_class_could_have_two_codes() -> None:
    reservoir = Reservoir(SAMPLE // (2 * LEAST) + 1)
    reservoir.add(torch.ones(20, 2), torch.arange(20))
    held, _ = reservoir.held(torch.zeros(1, 2))
    assert len(held) == 0


def test_an_empty_reservoir_holds_nothing_of_the_right_width() -> None:
    held, groups = Reservoir(3).held(torch.zeros(2, 5))
    assert held.shape == (0, 5)
    assert groups.shape == (0,)
