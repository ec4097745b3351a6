"""The look-up in sorted numbers: NumPy's, eager and written out for an exported graph."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nervecode.scoring.percentiles import number_below


@pytest.mark.parametrize("exporting", [False, True])
@pytest.mark.parametrize("equal", [False, True])
@pytest.mark.parametrize("kind", [np.float64, np.float32, np.int64])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 1000])
def test_counts_are_numpys(
    n: int, kind: type, equal: bool, exporting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.compiler, "is_exporting", lambda: exporting)
    random = np.random.default_rng(n)
    rows = np.sort(random.integers(20, size=(2, n)), axis=1).astype(kind)  # with ties
    scores = np.concatenate([rows, random.normal(size=(2, 30)), [[np.inf], [-np.inf]]], axis=1)
    if kind is np.int64:
        scores = np.concatenate([rows, random.integers(-9, 30, size=(2, 30))], axis=1)
    scores = scores.astype(kind)
    found = number_below(torch.from_numpy(rows), torch.from_numpy(scores), equal=equal)
    for row, ordered, score in zip(found, rows, scores, strict=True):
        side = "right" if equal else "left"
        np.testing.assert_array_equal(row, np.searchsorted(ordered, score, side=side))
