"""Layers of other resolutions, on one grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nervecode.core import CodingTrace
from nervecode.scoring.grid import grid_of, on_grid


def trace(values: Tensor, regret: bool = True) -> CodingTrace:
    """Of (B, *places) surprises."""
    rows = values.flatten()
    return CodingTrace(rows, None, rows, 2 * rows if regret else None, tuple(values.shape[1:]))


@pytest.mark.parametrize(("coarse", "fine"), [((3, 5), (7, 11)), ((4,), (9,)), ((2, 2), (4, 4))])
def test_the_nearest_place_as_pytorch_has_it(coarse: tuple, fine: tuple) -> None:
    values = torch.randn(2, *coarse)
    layers = {"coarse": trace(values), "fine": trace(torch.randn(2, *fine))}
    assert grid_of(layers) == fine
    found = on_grid(layers, fine)
    expected = F.interpolate(values.unsqueeze(1), size=fine, mode="nearest-exact").flatten()
    assert torch.equal(found["coarse"].surprise, expected)
    assert torch.equal(found["coarse"].regret, 2 * expected)
    assert found["coarse"].places == fine
    assert found["fine"] is layers["fine"]


def test_layers_without_positions_stay() -> None:
    layers = {"vector": trace(torch.randn(6))}
    assert grid_of(layers) == ()
    assert on_grid(layers, ())["vector"] is layers["vector"]
    assert on_grid(layers, (2, 3))["vector"] is layers["vector"]


def test_learned_codes_have_no_regret() -> None:
    layers = {"coarse": trace(torch.randn(2, 3), regret=False), "fine": trace(torch.randn(2, 6))}
    assert on_grid(layers, (6,))["coarse"].regret is None
