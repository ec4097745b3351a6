"""Selection from files agrees with the library's, however the rows are cut into chunks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from nervecode.errors import InputError
from nervecode.lab.inference.scored import Scored
from nervecode.lab.inference.selection import selected
from nervecode.scoring import select


def scored(p_values: np.ndarray) -> Scored:
    n, numbers = len(p_values), np.zeros(len(p_values))
    return Scored(
        ids=np.arange(n).astype(np.str_), surprise=numbers, percentile=numbers, p_value=p_values,
        prediction=numbers, by_layer=np.zeros((n, 1)), layers=("a",),
    )  # fmt: skip


@pytest.mark.parametrize("size", [1, 7, 1000])
@pytest.mark.parametrize("rate", [0.01, 0.2, 0.9])
def test_chunks_leave_no_trace(size: int, rate: float) -> None:
    rng = np.random.default_rng(0)
    p = np.concatenate([rng.integers(1, 101, 180), np.ones(20)]) / 100
    p[:40] = 0.01
    p[[5, 77]] = np.nan
    chunks = [scored(p[i : i + size]) for i in range(0, len(p), size)]
    flags = np.concatenate([chunk.flag for chunk in selected(lambda: chunks, rate)])
    np.testing.assert_array_equal(flags, select(torch.from_numpy(p), rate).numpy())
    assert flags[[5, 77]].all() and (rate < 0.1 or flags[0])


def test_a_p_value_that_equals_the_rate_but_for_rounding_is_selected() -> None:
    """Of 12 inputs and 19 of calibration: 12 x 0.05 = 0.3 x 2, which floats do not say."""
    p = np.array([1, 1, 3, 4, 7, 9, 11, 13, 15, 17, 19, 20]) / 20
    assert p[0] * 12 > 0.3 * 2
    chunks = [scored(p[:5]), scored(p[5:])]
    flags = np.concatenate([chunk.flag for chunk in selected(lambda: chunks, 0.3)])
    assert flags.tolist() == [True, True] + [False] * 10
    assert select(torch.from_numpy(p), 0.3).tolist() == flags.tolist()


def test_nothing_to_select_from() -> None:
    assert not next(selected(lambda: [scored(np.ones(3))], 0.9)).flag.any()
    assert list(selected(list, 0.5)) == []


def test_pooled_p_values_are_not_selected_from() -> None:
    """Within classes the rate holds; among inputs that are compared with all of them it may not."""
    chunk = scored(np.array([0.01, 0.5, 0.9]))
    own = replace(chunk, pooled=np.zeros(3, dtype=bool))
    assert next(selected(lambda: [own], 0.1)).flag.tolist() == [True, False, False]
    pooled = replace(chunk, prediction=np.array([4, 2, 3]), pooled=np.array([False, True, False]))
    with pytest.raises(InputError, match=r"class 2, predicted for 1, has too few calibration inp"):
        next(selected(lambda: [own, pooled], 0.1))
