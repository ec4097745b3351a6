"""Where the channels and the batch are in a module's output."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.layers.layout import Layout, output_layout, output_layouts
from tests.layers.zoo import ZOO


@pytest.mark.parametrize(
    ("name", "part", "expected"),
    [
        ("resnet18", "conv1", Layout(64, 1, 0, 4)),
        ("resnet18", "bn1", Layout(64, 1, 0)),
        ("resnet18", "layer2.0", Layout(128)),
        ("resnet18", "fc", Layout(10, -1)),
        ("resnet18", "relu", Layout()),
        ("resnet18", "maxpool", Layout(None, 1, 0, 4)),
        ("swin", "features.0.2", Layout(16, -1)),
        ("attention", "attention", Layout(8, -1, 0, 3)),
        ("lstm", "lstm", Layout(10, -1, 0, 3)),
        ("transformer", "layers.0", Layout(64, -1, 0, 3)),
        ("vit", "encoder.layers.encoder_layer_0", Layout(32)),
    ],
)
def test_layout_of_a_module(name: str, part: str, expected: Layout) -> None:
    assert output_layout(ZOO[name].build().get_submodule(part)) == expected


class NormOfMaps(nn.LayerNorm):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


SEQUENCE = torch.randn(5, 2, 8)
IMAGE = torch.randn(2, 8, 6, 6)


@pytest.mark.parametrize(
    ("module", "x"),
    [
        (nn.LSTM(8, 6), SEQUENCE),
        (nn.LSTM(8, 6, bidirectional=True, proj_size=3), SEQUENCE),
        (nn.LSTM(8, 6, batch_first=True), SEQUENCE),
        (nn.GRU(8, 6, 2, bidirectional=True), SEQUENCE),
        (nn.RNN(8, 6), SEQUENCE),
        (nn.TransformerEncoderLayer(8, 2, 16), SEQUENCE),
        (nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 1), SEQUENCE),
        (nn.GroupNorm(2, 8), IMAGE),
        (nn.InstanceNorm2d(8), IMAGE),
        (nn.AvgPool2d(2), IMAGE),
        (nn.ConvTranspose2d(8, 3, 2), IMAGE),
        (nn.Linear(8, 3), SEQUENCE),
        (nn.LSTMCell(8, 3), SEQUENCE[0]),
        (nn.Embedding(9, 4), torch.zeros(5, 2, dtype=torch.long)),
    ],
)
def test_the_layout_is_that_of_the_output(module: nn.Module, x: Tensor) -> None:
    layout = output_layout(module)
    output = module(x)
    output = output[0] if isinstance(output, tuple) else output
    if layout.width is not None:
        assert output.shape[layout.channel_dim] == layout.width
    assert layout.ndim in (None, output.ndim)
    inputs = 5 if getattr(module, "batch_first", False) else 2
    assert layout.batch_dim is None or output.shape[layout.batch_dim] == inputs


def test_a_norm_with_a_forward_of_its_own_may_permute() -> None:
    assert output_layout(NormOfMaps(8)) == Layout(8, None)
    assert output_layout(nn.LayerNorm(8)) == Layout(8, -1)


def test_the_states_of_a_recurrent_module_and_the_weights_of_attention() -> None:
    lstm, attention = nn.LSTM(8, 6, batch_first=True), nn.MultiheadAttention(8, 2)
    _, (states, _) = lstm(torch.randn(2, 5, 8))
    layout = output_layout(lstm, 1)
    assert layout == Layout(6, -1, 1, 3)
    assert states.shape[layout.batch_dim] == 2
    assert output_layout(attention) == Layout(8, -1, 1, 3)
    assert output_layout(attention, 1) == Layout(batch_dim=0)
    assert attention(SEQUENCE, SEQUENCE, SEQUENCE)[1].shape[0] == 2


class Mixed(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first)
        self.conv = nn.Conv1d(8, 8, 1)
        self.head = nn.Linear(8, 3)


def test_what_does_not_say_where_the_batch_is_follows_the_model() -> None:
    def dims(model: nn.Module) -> dict[str, int | None]:
        modules = {name: m for name, m in model.named_modules() if name}
        return {name: layout.batch_dim for name, layout in output_layouts(model, modules).items()}

    assert set(dims(Mixed(True)).values()) == {0}
    found = dims(Mixed(False))
    assert found.pop("head") is None  # before or after a transposition: the sizes will tell
    assert found.pop("conv") == 0
    assert set(found.values()) == {1}


class Signals(nn.Module):
    """A convolution over time and its activation; with `tokens`, that of a product behind it."""

    def __init__(self, *, tokens: bool = False, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.convolution = nn.Sequential(nn.Conv1d(3, 8, 5), norm or nn.Identity())
        self.product = nn.Linear(8, 12) if tokens else nn.Identity()
        self.activation, self.head = nn.GELU(), nn.Linear(12 if tokens else 8, 2)
        self.tokens = tokens

    def forward(self, x: Tensor) -> Tensor:
        maps = self.convolution(x)  # (B, 8, T)
        if self.tokens:
            return self.head(self.activation(self.product(maps.mT)).mean(1))
        return self.head(self.activation(maps).mean(2))


class Shared(nn.Module):
    """One activation for all maps, whose sides are as long as the last layer is wide."""

    def __init__(self, last: nn.Module) -> None:
        super().__init__()
        self.first, self.last, self.activation = nn.Conv2d(3, 6, 3, padding=1), last, nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        maps = self.activation(self.first(x))  # (B, 6, 10, 10)
        return self.last(maps).flatten(1)


@pytest.mark.parametrize(
    ("model", "shape", "places"),
    [
        (Signals(), (3, 40), 2),
        (Signals(), (3, 57), 2),
        (Signals(tokens=True), (3, 40), 1),
        (Shared(nn.Conv2d(6, 10, 1)), (3, 10, 10), (2, 3)),
        (Shared(nn.Linear(10, 10)), (3, 10, 10), (2, 3)),
        (Signals(norm=nn.BatchNorm1d(8)), (3, 40), 2),
    ],
)
def test_an_activation_has_its_channels_where_what_it_follows_has_them(
    model: nn.Module, shape: tuple[int, ...], places: int | tuple[int, ...]
) -> None:
    heard: list[Tensor] = []
    handle = model.activation.register_forward_hook(lambda *args: heard.append(args[2]))
    x = torch.randn(30, *shape)
    wrapped = nervecode.wrap(model, ["activation"]).fit([x], reduce="mean", length_power=1.0)
    vector = wrapped.forward_with_trace(x)[1]["activation"].vector
    handle.remove()
    torch.testing.assert_close(vector, heard[-1].mean(places))


def test_activations_of_signals_of_other_lengths_can_be_scored() -> None:
    wrapped = nervecode.wrap(Signals(), ["activation"]).fit([torch.randn(40, 3, 30)])
    wrapped.calibrate([torch.randn(40, 3, 30)])
    assert wrapped.score(torch.randn(4, 3, 33))[1].valid.all()
