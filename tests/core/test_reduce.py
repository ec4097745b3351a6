"""Reducers against NumPy, for every layout."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_sequence

from nervecode.core import BatchShape, Reducer
from nervecode.errors import InputError

ORACLES = {
    "mean": lambda x: x.mean(2),
    "max": lambda x: x.max(2),
    "mean_std": lambda x: np.concatenate([x.mean(2), x.std(2)], 1),
}


@pytest.mark.parametrize("name", sorted(ORACLES))
@pytest.mark.parametrize("shape", [(4, 3, 5, 7), (4, 3, 6), (4, 3, 2, 3, 4)])
def test_maps_are_reduced_over_space(name: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    expected = ORACLES[name](x.numpy().reshape(4, 3, -1))
    found = Reducer(name, channel_dim=1)(x)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", sorted(ORACLES))
@pytest.mark.parametrize("shape", [(4, 6, 3), (4, 5, 7, 3)])
def test_tokens_are_reduced_over_places(name: str, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    expected = ORACLES[name](x.numpy().reshape(4, -1, 3).transpose(0, 2, 1))
    np.testing.assert_allclose(Reducer(name, channel_dim=-1)(x), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("centre", [1e-3, 1.0, 1e3, 1e4])
@pytest.mark.parametrize("masked", [False, True])
def test_a_deviation_far_below_the_mean_keeps_its_digits(centre: float, masked: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x = centre + 0.1 * torch.randn(4, 8, 14, 14, generator=generator)
    real = torch.rand(4, 14, 14, generator=generator) < (0.6 if masked else 2)
    expected = [
        [channel[keep].std() for channel in row.reshape(8, -1)]
        for row, keep in zip(x.double().numpy(), real.numpy().reshape(4, -1), strict=True)
    ]
    for memory in (torch.contiguous_format, torch.channels_last):
        given = x.to(memory_format=memory)
        found = Reducer("mean_std")(given, BatchShape(mask=real if masked else None))[:, 8:]
        np.testing.assert_allclose(found, expected, rtol=1e-5 + 1e-7 * centre)


@pytest.mark.parametrize("name", sorted(ORACLES))
def test_vectors_pass_unchanged(name: str) -> None:
    x = torch.randn(4, 3)
    assert torch.equal(Reducer(name)(x), x)


@pytest.mark.parametrize(
    ("shape", "width", "channels"),
    [
        ((2, 8, 4, 4), 8, 8),  # the width decides: a map
        ((2, 4, 4, 8), 8, 8),  # the width decides: B, H, W, C
        ((2, 5, 8), 8, 8),  # B, T, C
        ((2, 8, 5), 8, 8),  # B, C, T
        ((2, 8, 4, 8), 8, 8),  # both fit: a 4-D activation is a map
        ((2, 5, 8), None, 8),  # nothing known: a 3-D activation is tokens
        ((2, 5, 8, 8), None, 5),  # nothing known: a 4-D activation is a map
    ],
)
def test_channels_are_found(shape: tuple[int, ...], width: int | None, channels: int) -> None:
    assert Reducer("mean", width=width)(torch.randn(shape)).shape == (2, channels)


def test_channels_are_settled_where_a_shape_tells() -> None:
    reducer = Reducer("mean", width=8)
    square, longer = torch.randn(2, 8, 8), torch.randn(2, 8, 5)
    assert torch.equal(reducer(square), square.mean(1))
    reducer.settle(longer)
    assert reducer.spec()["channel_dim"] == 1
    assert torch.equal(reducer(square), square.mean(2))


def test_channels_that_were_assumed_elsewhere_are_refused() -> None:
    reducer = Reducer("mean", width=8)
    for shape in ((2, 8, 8), (2, 5, 8), (2, 8), (2, 5, 6)):
        reducer.settle(torch.randn(shape))
        assert reducer.channel_dim == (None if shape == (2, 8, 8) else -1)
    reducer = Reducer("mean", width=8)
    reducer.settle(torch.randn(2, 8, 8))
    with pytest.raises(
        InputError, match=r"found 8 channels in dimension 1 of shape \(2, 8, 5\), w"
    ):
        reducer.settle(torch.randn(2, 8, 5))


@pytest.mark.parametrize("power", [0.0, 0.25, 0.7, 1.0])
def test_the_length_is_raised_to_a_power_and_the_direction_stays(power: float) -> None:
    x = torch.randn(5, 4, 3, 3)
    plain = Reducer("mean")(x)
    found = Reducer("mean", length_power=power)(x)
    torch.testing.assert_close(found.norm(dim=1), plain.norm(dim=1) ** power)
    torch.testing.assert_close(nn.functional.cosine_similarity(found, plain), torch.ones(5))
    assert Reducer("mean", length_power=power)(torch.zeros(2, 4)).abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    """4096 values of 0.1 sum to 409.6: float16 and bfloat16 sums would be far off."""
    x = torch.full((1, 2, 64, 64), 0.1, dtype=dtype)
    found = Reducer("mean", channel_dim=1)(x)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, torch.full((1, 2), x[0, 0, 0, 0].item()))


def test_channels_last_memory_gives_the_same() -> None:
    x = torch.randn(3, 8, 6, 6)
    for name in ORACLES:
        reducer = Reducer(name, channel_dim=1)
        torch.testing.assert_close(reducer(x), reducer(x.to(memory_format=torch.channels_last)))


def test_dead_channel_has_finite_gradients() -> None:
    x = torch.zeros(2, 3, 4, 4, requires_grad=True)
    Reducer("mean_std", channel_dim=1)(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()


def test_spec_rebuilds_the_reducer() -> None:
    reducer = Reducer("max", channel_dim=-1, width=3, length_power=0.5)
    assert Reducer(**reducer.spec()).spec() == reducer.spec()


def test_errors_name_what_was_found() -> None:
    with pytest.raises(InputError, match="'maen'; did you mean 'mean'"):
        Reducer("maen")
    with pytest.raises(InputError, match=r"length_power: found 1\.5, allowed: 0 to 1"):
        Reducer(length_power=1.5)
    with pytest.raises(InputError, match="channel_dim: found 2, allowed: 1, -1 or None"):
        Reducer(channel_dim=2)
    with pytest.raises(InputError, match=r"found torch.float32 of shape \(3,\)"):
        Reducer()(torch.zeros(3))
    with pytest.raises(InputError, match=r"found torch.int64 of shape \(3, 2\)"):
        Reducer()(torch.zeros(3, 2, dtype=torch.long))


# Where the batch is


def test_a_sequence_first_activation_gives_the_vectors_of_its_transpose() -> None:
    x = torch.randn(4, 7, 3)  # B, T, C
    for name in ORACLES:
        expected = Reducer(name, channel_dim=-1)(x)
        found = Reducer(name, channel_dim=-1, batch_dim=1)(x.transpose(0, 1))
        torch.testing.assert_close(found, expected)
        open_ = Reducer(name, channel_dim=-1, batch_dim=None)
        torch.testing.assert_close(open_(x, BatchShape((4,))), expected)
        torch.testing.assert_close(open_(x.transpose(0, 1), BatchShape((4,))), expected)


def test_a_batch_that_cannot_be_told_is_refused() -> None:
    reducer = Reducer("mean", batch_dim=None)
    for shape, batch in (
        ((4, 4, 3), BatchShape((4,))),
        ((5, 7, 3), BatchShape((4,))),
        ((5, 4, 3), BatchShape()),
    ):
        with pytest.raises(InputError, match=r"do not tell which of them is the batch of "):
            reducer(torch.zeros(shape), batch)


def test_an_unbatched_activation_is_refused() -> None:
    with pytest.raises(InputError, match=r"found shape \(3, 5, 5\), allowed: the 4 dimensions"):
        Reducer("mean", channel_dim=1, ndim=4)(torch.zeros(3, 5, 5))


# Padding


LENGTHS = (3, 1, 5)


def sequences() -> tuple[list[torch.Tensor], torch.Tensor, torch.Tensor]:
    """Three sequences, padded with garbage to length 6, and the mask of what is real."""
    alone = [torch.randn(length, 4) for length in LENGTHS]
    padding = [torch.full((6 - length, 4), float("nan")) for length in LENGTHS]
    rows = [torch.cat(pair) for pair in zip(alone, padding, strict=True)]
    return alone, torch.stack(rows), torch.arange(6) < torch.tensor(LENGTHS).unsqueeze(1)


@pytest.mark.parametrize("name", [*ORACLES, "tokens"])
def test_padding_is_not_read(name: str) -> None:
    alone, x, mask = sequences()
    reducer = Reducer(name, channel_dim=-1)
    oracle = ORACLES[name.replace("tokens", "mean")]
    expected = np.concatenate([oracle(s.T.unsqueeze(0).numpy()) for s in alone])
    np.testing.assert_allclose(reducer(x, BatchShape(mask=mask)), expected, rtol=1e-5, atol=1e-6)
    first = Reducer(name, channel_dim=-1, batch_dim=1)(x.transpose(0, 1), BatchShape(mask=mask))
    np.testing.assert_allclose(first, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", ["packed", "nested", "jagged"])
@pytest.mark.parametrize("name", sorted(ORACLES))
def test_ragged_sequences_are_read_as_padded_ones(name: str, kind: str) -> None:
    alone, x, mask = sequences()
    ragged = {
        "packed": lambda: pack_sequence(alone, enforce_sorted=False),
        "nested": lambda: torch.nested.nested_tensor(alone),
        "jagged": lambda: torch.nested.nested_tensor(alone, layout=torch.jagged),
    }[kind]()
    expected = Reducer(name, channel_dim=-1)(x, BatchShape(mask=mask))
    torch.testing.assert_close(Reducer(name)(ragged), expected)


def test_a_mask_of_pixels() -> None:
    x, mask = torch.randn(2, 3, 4, 4), torch.rand(2, 4, 4) < 0.5
    expected = torch.stack([m[:, keep].mean(1) for m, keep in zip(x, mask, strict=True)])
    torch.testing.assert_close(Reducer("mean", channel_dim=1)(x, BatchShape(mask=mask)), expected)
    vectors = x[..., 0, 0]
    assert torch.equal(Reducer("mean")(vectors, BatchShape(mask=mask)), vectors)


def test_the_last_token_is_the_last_real_one() -> None:
    alone, x, mask = sequences()
    expected = torch.stack([s[-1] for s in alone])
    torch.testing.assert_close(Reducer("last_token")(x, BatchShape(mask=mask)), expected)
    first = torch.stack([s[0] for s in alone])  # of the reverse, which is padded on the left
    torch.testing.assert_close(
        Reducer("last_token")(x.flip(1), BatchShape(mask=mask.flip(1))), first
    )
    assert torch.equal(Reducer("last_token")(x.flip(1)), x[:, 0])


def test_an_input_without_a_real_position_has_no_vector() -> None:
    _, x, mask = sequences()
    mask[1] = False
    for name in (*ORACLES, "last_token"):
        finite = Reducer(name, channel_dim=-1)(x, BatchShape(mask=mask)).isfinite().all(1)
        assert finite.tolist() == [True, False, True]


def test_a_mask_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        InputError, match=r"positions of shape \(2, 7\), which a mask of shape \(2, 6\)"
    ):
        Reducer("tokens")(torch.zeros(2, 7, 3), BatchShape(mask=torch.ones(2, 6, dtype=torch.bool)))


def test_an_activation_without_values_is_refused() -> None:
    with pytest.raises(InputError, match="on the meta device, which has no values"):
        Reducer()(torch.zeros(3, 2, device="meta"))


def test_a_sparse_activation_is_refused() -> None:
    with pytest.raises(InputError, match=r"found a torch\.sparse_coo tensor"):
        Reducer()(torch.eye(3).to_sparse())
