"""Sequence-first models give one surprise per input, equal to that of their batch-first twins."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import InputError, NotReadyError

T, B, C = 5, 24, 8


class Recurrent(nn.Module):
    """(B, T, C) -> (B, 3), by a part of either layout and a layer over all steps."""

    def __init__(self, kind: type[nn.RNNBase], batch_first: bool, **kwargs: int) -> None:
        super().__init__()
        self.part = kind(C, 6, batch_first=batch_first, **kwargs)
        sides = 2 if self.part.bidirectional else 1
        self.steps = nn.Linear((self.part.proj_size or 6) * sides, 6)
        self.head = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        first = self.part.batch_first
        steps = self.steps(self.part(x if first else x.transpose(0, 1))[0])
        return self.head(steps[:, -1] if first else steps[-1])


class Attentive(nn.Module):
    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(C, 2, 16, batch_first=batch_first, dropout=0)
        self.part = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.steps = nn.Linear(C, 6)
        self.head = nn.Linear(6, 3)
        self.first = batch_first

    def forward(self, x: Tensor) -> Tensor:
        steps = self.steps(self.part(x if self.first else x.transpose(0, 1)))
        return self.head(steps.mean(1 if self.first else 0))


LAYOUTS: dict[str, Callable[[bool], nn.Module]] = {
    "lstm": lambda first: Recurrent(nn.LSTM, first),
    "lstm_bidirectional": lambda first: Recurrent(nn.LSTM, first, bidirectional=True),
    "lstm_projected": lambda first: Recurrent(nn.LSTM, first, proj_size=4),
    "gru": lambda first: Recurrent(nn.GRU, first),
    "rnn": lambda first: Recurrent(nn.RNN, first, num_layers=2),
    "transformer": Attentive,
}


def twins(name: str) -> tuple[nn.Module, nn.Module]:
    """The same function, batch first and sequence first."""
    torch.manual_seed(0)
    first, steps = LAYOUTS[name](True), LAYOUTS[name](False)
    steps.load_state_dict(first.state_dict())
    return first, steps


def surprise(model: nn.Module, batches: list[Tensor], x: Tensor, layers: object) -> Tensor:
    wrapped = nervecode.wrap(model, layers).fit(batches).calibrate([torch.flip(x, [0])])
    wrapped(x)
    return wrapped.surprise("mean").by_layer


@pytest.mark.parametrize("name", LAYOUTS)
def test_both_layouts_give_the_same_surprise(name: str) -> None:
    batches, x = [torch.randn(B, T, C) for _ in range(3)], torch.randn(B, T, C)
    layers = ["part", "steps", "head"]
    first, steps = (surprise(model, batches, x, layers) for model in twins(name))
    assert first.shape == (B, 3)
    torch.testing.assert_close(steps, first, rtol=1e-4, atol=1e-4)


def test_parts_of_a_transformer_follow_it() -> None:
    batches, x = [torch.randn(B, T, C) for _ in range(3)], torch.randn(B, T, C)
    layers = ["part.layers.*", "part.layers.*.linear2", "part.layers.*.norm1"]
    torch.backends.mha.set_fastpath_enabled(False)  # which would run a layer as one kernel
    try:
        first, steps = (surprise(model, batches, x, layers) for model in twins("transformer"))
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    torch.testing.assert_close(steps, first, rtol=1e-4, atol=1e-4)


def test_as_many_steps_as_inputs() -> None:
    """A layer's own layout decides, where both sizes fit; what has none is refused by name."""
    x = torch.randn(B, B, C)
    first, steps = twins("lstm")
    batches = [torch.randn(B, B, C) for _ in range(3)]
    expected = surprise(first, batches, x, ["part", "head"])
    with pytest.warns(UserWarning, match="layer 'steps' is not coded: both dimensions"):
        found = surprise(steps, batches, x, ["part", "steps", "head"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_another_batch_settles_it() -> None:
    """Fitted where the sizes tell, a layer is read rightly where they no longer do."""
    first, steps = twins("gru")
    batches, x = [torch.randn(B, T, C) for _ in range(3)], torch.randn(T, T, C)
    expected, found = (surprise(m, batches, x, ["steps", "head"]) for m in (first, steps))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_a_model_that_takes_steps_first() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(C, C), nn.LSTM(C, 6))
    wrapped = nervecode.wrap(model, ["0", "1"])
    data = [torch.randn(T, B, C) for _ in range(3)]
    wrapped.fit([(x, torch.arange(B) % 2) for x in data], num_classes=2).calibrate(data)
    wrapped(data[0])
    assert wrapped.surprise().by_layer.shape == (B, 2)


def test_the_states_of_an_lstm_are_one_per_input() -> None:
    first, steps = twins("lstm")
    batches, x = [torch.randn(B, T, C) for _ in range(3)], torch.randn(B, T, C)
    pair = [surprise(model, batches, x, {"part": 1}) for model in (first, steps)]
    assert pair[0].shape == (B, 1)
    torch.testing.assert_close(pair[0], pair[1], rtol=1e-4, atol=1e-4)


def test_batches_of_one_and_sequences_of_one_step() -> None:
    for model in twins("lstm"):
        batches = [torch.randn(B, T, C), torch.randn(1, T, C), torch.randn(B, 1, C)]
        wrapped = nervecode.wrap(model, ["part", "steps", "head"]).fit(batches).calibrate(batches)
        for x in (torch.randn(1, T, C), torch.randn(1, 1, C), torch.randn(B, 1, C)):
            wrapped(x)
            assert wrapped.surprise().p_value.shape == (len(x),)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_unbatched_inputs_are_refused_by_name(name: str) -> None:
    class Unbatched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part = twins(name)[0].part

        def forward(self, x: Tensor) -> Tensor:
            out = self.part(x)
            return out[0] if isinstance(out, tuple) else out

    wrapped = nervecode.wrap(Unbatched(), ["part"])
    with (
        pytest.warns(UserWarning, match="layer 'part' is not coded: .* allowed: the 3 dimensions"),
        pytest.raises(NotReadyError, match="could be coded: 'part'"),
    ):
        wrapped.fit([torch.randn(T, C)])


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.rows, self.head = nn.Linear(C, C), nn.Linear(C, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x.reshape(-1, C)).view(x.shape)
        return self.head(rows.mean(1))


def test_flattened_positions_are_refused_by_name() -> None:
    wrapped = nervecode.wrap(Flattened(), ["rows", "head"])
    found = f"found {B * T} rows, shape .*, in a call of {B} inputs"
    with pytest.warns(UserWarning, match=f"layer 'rows' is not coded: activation: {found}"):
        wrapped.fit([torch.randn(B, T, C)]).calibrate([torch.randn(B, T, C)])
    wrapped(torch.randn(3, T, C))
    assert wrapped.surprise().layers == ("head",)


class Routed(nn.Module):
    """Of two experts each sees the inputs that are routed to it."""

    def __init__(self) -> None:
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(C, 4) for _ in range(2))
        self.head = nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        out, chosen = x.new_zeros(len(x), 4), (x[:, 0] > 0).long()
        for i, expert in enumerate(self.experts):
            out[chosen == i] = expert(x[chosen == i])
        return self.head(out)


def test_an_expert_is_refused_even_if_one_batch_is_all_its_own() -> None:
    x = torch.randn(B, C)
    own = x.abs()  # expert 1 sees all of these
    wrapped = nervecode.wrap(Routed(), "all_linear")
    with pytest.warns(UserWarning, match=r"layer 'experts\.[01]' is not coded"):
        wrapped.fit([own, x])
    assert wrapped.layer_names == ("head",)


def test_packed_sequences_are_read_without_their_padding() -> None:
    class Packed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.part, self.head = nn.LSTM(C, 6, batch_first=True), nn.Linear(6, 2)

        def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
            rows = nn.utils.rnn.pack_padded_sequence(
                x, lengths, batch_first=True, enforce_sorted=False
            )
            return self.head(self.part(rows)[1][0][-1])

    lengths = torch.arange(B) % T + 1
    data = [{"x": torch.randn(B, T, C), "lengths": lengths} for _ in range(3)]
    wrapped = nervecode.wrap(Packed(), ["part", "head"]).fit(data).calibrate(data)
    x, garbage = torch.randn(B, T, C), torch.full((B, 3, C), 1e3)
    wrapped(x, lengths)
    expected = wrapped.surprise().by_layer
    wrapped(torch.cat([x, garbage], 1), lengths)
    torch.testing.assert_close(wrapped.surprise().by_layer, expected)


def test_labels_for_another_number_of_inputs() -> None:
    with pytest.raises(InputError, match=f"labels: found 3, in a call of {B} inputs"):
        nervecode.wrap(Flattened(), "head").fit([(torch.randn(B, T, C), torch.arange(3) % 2)])


def test_an_error_of_a_layer_names_it() -> None:
    class Divides(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x / 0

    model = nn.Sequential(nn.Linear(C, C), Divides())
    with warnings.catch_warnings(), pytest.raises(InputError, match=r"layer '1': .* NaN or inf"):
        warnings.simplefilter("ignore")
        nervecode.wrap(model, ["0", "1"]).fit([torch.randn(B, C)])


class Residual(nn.Module):
    """A block that does not say where its channels are."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x).relu()


def test_a_series_as_long_as_it_has_channels_is_read_as_the_others(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv1d(2, 8, 3, padding=1), Residual(), nn.AdaptiveAvgPool1d(1))
    wrapped = nervecode.wrap(model.eval(), ["1"])
    batches = [torch.randn(60, 2, steps) for steps in (9, 8, 12)]
    wrapped.fit(batches, reduce="mean", length_power=1.0)
    wrapped.save(tmp_path / "codes.safetensors")
    x = torch.randn(5, 2, 8)
    with torch.no_grad():
        expected = model[1](model[0](x)).mean(2)
        for watched in (wrapped, nervecode.load(tmp_path / "codes.safetensors", model)):
            vector = watched.forward_with_trace(x)[1]["1"].vector
            torch.testing.assert_close(vector, expected, rtol=1e-5, atol=1e-6)


def test_one_length_alone_settles_what_it_was_read_as() -> None:
    wrapped = nervecode.wrap(nn.Sequential(Residual()).eval(), ["0"])
    wrapped.fit([torch.randn(60, 8, 8)])
    with pytest.warns(UserWarning, match="layer '0' is not coded"):
        assert not wrapped.forward_with_trace(torch.randn(5, 8, 9))[1]
