"""Networks for series and for vectors of an encoder."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nervecode.errors import InputError
from nervecode.lab.data.samples import Samples
from nervecode.lab.models.build import build_model
from nervecode.lab.models.conv1d import KERNEL, SeriesBlock
from nervecode.lab.schema import ModelConfig
from nervecode.layers import select_layers


def samples(*shape: int, count: int = 32) -> Samples:
    generator = torch.Generator().manual_seed(0)
    return Samples(torch.randn(count, *shape, generator=generator), torch.arange(count) % 4)


@pytest.mark.parametrize("stride", [1, 2])
def test_a_block_of_a_series_is_a_sum_over_five_steps(stride: int) -> None:
    torch.manual_seed(0)
    block = SeriesBlock(2, 3, stride).eval()
    x = torch.randn(1, 2, 9)
    weight, padded = block.conv.weight.detach().numpy(), np.zeros((2, 9 + KERNEL - 1))
    padded[:, 2:-2] = x[0].numpy()
    expected = np.array(
        [
            [
                max(0.0, (weight[c] * padded[:, t : t + KERNEL]).sum() / np.sqrt(1 + 1e-5))
                for t in range(0, 9, stride)
            ]
            for c in range(3)
        ]
    )
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-5)


def test_a_series_network_has_as_many_blocks_as_asked_for_and_takes_any_length() -> None:
    for depth, widths in ((None, [6, 6, 12, 12]), (1, [6]), (3, [6, 6, 12])):
        model = build_model(ModelConfig(name="conv1d", width=6, depth=depth), samples(3, 11), 4)
        blocks = select_layers(model, "all_blocks")
        assert [block.conv.out_channels for block in blocks.values()] == widths
        for length in (1, 7, 30):
            assert model.eval()(torch.randn(2, 3, length)).shape == (2, 4)


def test_the_head_over_vectors_is_linear_and_the_vectors_are_watched() -> None:
    model = build_model(ModelConfig(name="embedding"), samples(20), 4).eval()
    (name,) = select_layers(model, "all_blocks")
    assert name == "blocks.0"
    assert [type(m) for m in model.modules() if isinstance(m, nn.Linear)] == [nn.Linear]
    vectors = model.features(torch.randn(5, 20))
    # LayerNorm: every vector has mean 0 and length sqrt(D).
    torch.testing.assert_close(vectors.norm(dim=1), torch.full((5,), 20**0.5), rtol=1e-4, atol=0)
    deep = build_model(ModelConfig(name="embedding", width=6, depth=2), samples(20), 4)
    assert list(select_layers(deep, "all_blocks")) == ["blocks.0", "blocks.1", "blocks.2"]
    assert deep.head.in_features == 6


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        ("conv1d", (13,), "takes series (C, T), found inputs of shape (13,); allowed for these: "
         "embedding, mlp"),
        ("embedding", (3, 8), "takes vectors (D,), found inputs of shape (3, 8); allowed for "
         "these: conv1d, mlp"),
        ("embedding", (1, 8, 8), "allowed for these: small_cnn, resnet18, vit and other"),
        ("resnet18", (3, 8), "takes images (C, H, W), found inputs of shape (3, 8); allowed"),
        ("conv1d", (1, 2, 3, 4), "allowed for these: mlp"),
    ],
)  # fmt: skip
def test_inputs_of_another_form_are_told(name: str, shape: tuple[int, ...], words: str) -> None:
    with pytest.raises(InputError, match=f"model.name: '{name}'") as told:
        build_model(ModelConfig(name=name), samples(*shape, count=4), 3)
    assert words in str(told.value)
