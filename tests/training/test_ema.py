"""EMA updates by hand, and the revival of dead centres."""

import numpy as np
import pytest
import torch

from nervecode.core import Codebook
from nervecode.errors import InputError
from nervecode.training import EmaCodebookUpdater


def book(*centres: float) -> Codebook:
    return Codebook.from_centres(torch.tensor(centres).unsqueeze(1))


def test_two_updates_by_hand() -> None:
    codes = book(0.0, 10.0)
    updater = EmaCodebookUpdater(codes, decay=0.9)
    counts, sums = np.array([1.0, 1.0]), np.array([0.0, 10.0])
    for batch in ([1.0, 2.0, 9.0], [0.5, 8.0, 12.0]):
        z, centres = np.array(batch), codes.centres.numpy().ravel()
        nearest = np.abs(z[:, None] - centres).argmin(1)
        counts = 0.9 * counts + 0.1 * np.bincount(nearest, minlength=2)
        sums = 0.9 * sums + 0.1 * np.bincount(nearest, z, minlength=2)
        assert updater.update(torch.tensor(batch).unsqueeze(1)) == 0
        np.testing.assert_allclose(codes.centres.numpy().ravel(), sums / counts, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99])
def test_a_dead_centre_stays_where_it_is(decay: float) -> None:
    codes = book(0.0, 7.0)
    updater = EmaCodebookUpdater(codes, decay=decay)
    for _ in range(1200):
        updater.update(torch.tensor([[1.0], [-1.0]]))
    np.testing.assert_allclose(codes.centres.ravel(), [0.0, 7.0], atol=1e-5)


def test_without_a_past_the_update_is_lloyds() -> None:
    codes = book(0.0, 10.0)
    EmaCodebookUpdater(codes, decay=0.0).update(torch.tensor([[1.0], [3.0], [8.0]]))
    np.testing.assert_allclose(codes.centres.ravel(), [2.0, 8.0])


def test_a_dead_centre_is_put_on_a_vector_of_the_batch() -> None:
    codes = book(0.0, 1e6)
    updater = EmaCodebookUpdater(codes, decay=0.5, revive_below=0.3)
    batch = torch.tensor([[1.0], [2.0], [3.0]])
    assert [updater.update(batch), updater.update(batch)] == [0, 1]
    assert codes.centres[1].item() in (1.0, 2.0, 3.0)
    assert codes.centres[0].item() == pytest.approx(2.0, abs=0.6)


def test_learned_centres_can_be_updated_too() -> None:
    codes = Codebook(3, 2)
    EmaCodebookUpdater(codes, decay=0.0).update(torch.zeros(4, 2))
    assert isinstance(codes.centres, torch.nn.Parameter)
    assert (codes.centres == 0).all(1).any()


def test_errors() -> None:
    with pytest.raises(InputError, match=r"decay: found 1\.0, allowed: 0 <= decay < 1"):
        EmaCodebookUpdater(book(0.0), decay=1.0)
    with pytest.raises(InputError, match="revive_below: found -1"):
        EmaCodebookUpdater(book(0.0), revive_below=-1)
    codes = book(0.0, 1.0)
    with pytest.raises(InputError, match="EMA update: the vectors hold NaN or infinity"):
        EmaCodebookUpdater(codes).update(torch.tensor([[torch.nan]]))
    assert codes.centres.isfinite().all()
