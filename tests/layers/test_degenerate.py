"""Degenerate data gives finite numbers or a clear error, never NaN."""

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.layers import WrappedModel


def model(width: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))


def scored(net: nn.Module, x: Tensor, y: Tensor, **options: object) -> WrappedModel:
    wrapped = nervecode.wrap(net, "*").fit([(x, y)], **options)
    wrapped.calibrate([(x, y)])
    for probe in (x[:3], torch.randn(4, 6), 1e4 * torch.randn(4, 6), torch.zeros(2, 6)):
        wrapped(probe)
        found = wrapped.surprise()
        assert found.surprise.isfinite().all()
        assert found.by_layer.isfinite().all()
        assert found.percentile.isfinite().all()
    return wrapped


@pytest.mark.parametrize("length_power", [0.0, 0.25, 1.0])
@pytest.mark.parametrize("value", [0.0, 1.0, -1e4, 1e-8])
def test_constant_data(value: float, length_power: float) -> None:
    x, y = torch.full((50, 6), value), torch.arange(50) % 3
    wrapped = scored(model(), x, y, length_power=length_power)
    wrapped(torch.randn(5, 6))
    assert (wrapped.surprise().percentile == 1).all()  # anything else is a surprise


@pytest.mark.parametrize("length_power", [0.0, 0.25, 1.0])
def test_dead_channel(length_power: float) -> None:
    net = model()
    with torch.no_grad():
        net[0].weight[2], net[0].bias[2] = 0.0, -1.0
    scored(net, torch.randn(200, 6), torch.arange(200) % 3, length_power=length_power)


def test_fewer_inputs_than_dimensions() -> None:
    scored(model(64), torch.randn(10, 6), torch.arange(10) % 3)


def test_two_inputs() -> None:
    scored(model(), torch.randn(2, 6), torch.tensor([0, 1]))


def test_one_class_of_three() -> None:
    wrapped = scored(model(), torch.randn(60, 6), torch.ones(60, dtype=torch.long))
    assert wrapped.coder("0").codes.num_classes == 1


def test_one_input_per_class() -> None:
    scored(model(), torch.randn(3, 6), torch.arange(3))


def test_duplicated_channels() -> None:
    net = model()
    with torch.no_grad():
        net[0].weight[1], net[0].bias[1] = net[0].weight[0], net[0].bias[0]
    scored(net, torch.randn(200, 6), torch.arange(200) % 3, length_power=1.0)


def test_channels_of_very_different_scales() -> None:
    net = model()
    with torch.no_grad():
        net[0].weight.mul_(torch.logspace(-6, 6, 8).unsqueeze(1))
    scored(net, torch.randn(200, 6), torch.arange(200) % 3, length_power=1.0)
