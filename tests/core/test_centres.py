"""Several centres per class: streaming Lloyd against scikit-learn's k-means on whitened vectors."""

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from nervecode.core import ClassMoments
from nervecode.core.centres import Centres, Reservoir
from nervecode.core.precision import Precision

DIM, PER_GROUP = 3, 4


def data() -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(0)
    labels = random.integers(2, size=400)
    spots = 4 * random.normal(size=(2, PER_GROUP, DIM))
    z = spots[labels, random.integers(PER_GROUP, size=400)] + random.normal(size=(400, DIM))
    return torch.from_numpy(z * [1.0, 5.0, 0.2]), torch.from_numpy(labels)


def whiten(precision: Precision) -> np.ndarray:
    """W with W W' = Lambda."""
    return np.linalg.cholesky(precision.times(torch.eye(DIM, dtype=torch.float64)).numpy())


@pytest.mark.parametrize("batch", [400, 64])
def test_passes_are_lloyds_steps_of_scikit_learn(batch: int) -> None:
    z, labels = data()
    reservoir = Reservoir(2, PER_GROUP)
    reservoir.add(z, labels)
    moments = ClassMoments.of(z, labels, 2)
    precision = Precision.within(moments)
    centres = Centres(reservoir.first(moments.means), precision)
    start = centres.values.clone()
    for _ in range(6):
        found = ClassMoments.empty(2 * PER_GROUP, DIM)
        for x, y in zip(z.split(batch), labels.split(batch), strict=True):
            found = found + ClassMoments.of(x, centres.nearest(x, y), 2 * PER_GROUP)
        centres.move(found)
    root = whiten(precision)
    for group in range(2):
        rows = slice(group * PER_GROUP, (group + 1) * PER_GROUP)
        reference = KMeans(PER_GROUP, init=start[rows].numpy() @ root, n_init=1, max_iter=6, tol=0)
        reference.fit(z[labels == group].numpy() @ root)
        expected = reference.cluster_centers_
        np.testing.assert_allclose(centres.values[rows].numpy() @ root, expected, atol=1e-8)


def test_a_vector_goes_to_a_centre_of_its_own_group() -> None:
    z, labels = data()
    moments = ClassMoments.of(z, labels, 2)
    first = torch.stack([z[labels == 0][:PER_GROUP], z[labels == 1][:PER_GROUP]])
    centres = Centres(first, Precision.within(moments))
    assert torch.equal(centres.nearest(z, labels) // PER_GROUP, labels)


def test_a_centre_without_vectors_stays() -> None:
    z, labels = data()
    moments = ClassMoments.of(z, labels, 2)
    first = torch.stack([z[:PER_GROUP], z[:PER_GROUP] + 1e6])
    centres = Centres(first, Precision.within(moments))
    before = centres.values.clone()
    centres.move(ClassMoments.empty(2 * PER_GROUP, DIM))
    assert torch.equal(centres.values, before)


def test_a_small_group_begins_with_copies_of_its_mean() -> None:
    reservoir = Reservoir(2, 3)
    reservoir.add(torch.tensor([[1.0], [2.0]]), torch.tensor([0, 1]))
    reservoir.add(torch.tensor([[5.0], [6.0], [7.0]]), torch.tensor([0, 0, 0]))
    first = reservoir.first(torch.tensor([[4.0], [2.0]], dtype=torch.float64))
    assert first.squeeze(2).tolist() == [[1.0, 5.0, 6.0], [2.0, 2.0, 2.0]]
