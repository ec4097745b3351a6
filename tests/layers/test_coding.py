"""CodingLinear and CodingConv2d: the layer itself, and its trace."""

import copy

import pytest
import torch
from torch import nn

from nervecode.errors import InputError
from nervecode.layers import CodingConv2d, CodingLinear


@pytest.mark.parametrize(
    ("coding", "bare", "shape"),
    [
        (lambda: CodingLinear(6, 4), nn.Linear(6, 4), (5, 6)),
        (lambda: CodingLinear(6, 4), nn.Linear(6, 4), (5, 3, 6)),
        (lambda: CodingConv2d(3, 4, 3, padding=1), nn.Conv2d(3, 4, 3, padding=1), (5, 3, 8, 8)),
    ],
)
def test_output_is_that_of_the_bare_layer(coding, bare: nn.Module, shape) -> None:
    layer, x = coding(), torch.randn(shape)
    assert layer.trace is None
    layer.load_state_dict(bare.state_dict(), strict=False)
    assert torch.equal(layer(x), bare(x))
    assert layer.trace.surprise.shape == (5,)
    layer.trace.surprise.mean().backward()
    assert layer.weight.grad is not None
    assert all(p.grad is not None for p in layer.coder.parameters())


def test_options_reach_layer_and_coder() -> None:
    layer = CodingConv2d(3, 4, (3, 1), num_codes=7, coding_dim=2, bias=False, stride=2)
    assert layer.bias is None
    assert layer.stride == (2, 2)
    assert layer.coder.codebook.centres.shape == (7, 2)
    with pytest.raises(InputError, match="coding_dim: found 0"):
        CodingLinear(3, 4, coding_dim=0)


def test_a_copy_after_a_forward_has_no_trace() -> None:
    layer = CodingLinear(6, 4)
    layer(torch.randn(2, 6))
    twin = copy.deepcopy(layer)
    assert twin.trace is None
    assert layer.trace is not None


def test_the_coder_is_on_the_device_of_the_layer() -> None:
    layer = CodingLinear(6, 4, device="meta")
    assert {t.device.type for t in layer.coder.state_dict().values()} == {"meta"}
