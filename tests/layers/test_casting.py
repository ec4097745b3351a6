"""fit and calibrate give a model the inputs that score gives it; what it refuses, they cast."""

from __future__ import annotations

import random
from collections import namedtuple
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_sequence

import nervecode
from nervecode.layers.batch.batches import read_batches
from nervecode.layers.batch.inputs import floating_dtypes

Y = torch.arange(240) % 3


class Latency(nn.Module):
    """Subtracts two Unix times in float64, the first columns, before it narrows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(2, 32), nn.ReLU(), nn.Linear(32, 3))

    def forward(self, x: Tensor) -> Tensor:
        narrow = torch.stack([x[:, 1] - x[:, 0], x[:, 2]], 1)
        return self.layers(narrow.to(self.layers[0].weight.dtype))


def calls(seed: int, latency: float = 1.0) -> Tensor:
    """(240, 3) float64: times sent and received, and a feature."""
    generator = torch.Generator().manual_seed(seed)
    draw = torch.randn(240, 3, generator=generator, dtype=torch.float64)
    sent = 1.7e9 + 1e5 * draw[:, 0]
    return torch.stack([sent, sent + latency + 0.2 * draw[:, 1], draw[:, 2]], 1)


class Pixels(nn.Module):
    """Normalises bytes as floats in their own precision, before it narrows."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x: Tensor) -> Tensor:
        return self.layers((x - 1000).to(self.layers[0].weight.dtype))


def linear() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 3)).eval()


@contextmanager
def heard(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, the first arguments of a module's calls."""
    seen: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0].clone()))
    with handle:
        yield seen


def same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def test_a_model_that_narrows_by_itself_is_given_the_same_everywhere() -> None:
    """The differences of the times are those of float64, which float32 rounds to 128 s."""
    torch.manual_seed(0)
    model = Latency().eval()
    known, held_out, late = calls(0), calls(1), calls(2, 60.0)
    with heard(model) as given, heard(model.layers) as narrow:
        wrapped = nervecode.wrap(model).fit([(known, Y)]).calibrate([held_out])
        surprise, slow = wrapped.score(calls(2))[1], wrapped.score(late)[1]
    expected = [known, known, held_out, held_out, calls(2), late]  # each pass tries its first batch
    assert len(given) == len(expected) and all(map(same, given, expected))
    for inputs, x in zip(narrow, expected, strict=True):
        assert same(inputs, torch.stack([x[:, 1] - x[:, 0], x[:, 2]], 1).float())
    assert surprise.valid.all() and surprise.flag(0.05).double().mean() < 0.12
    assert slow.flag(0.05).all()


@pytest.mark.parametrize("options", [{}, {"call": lambda m, b: m(b[0]), "labels": lambda b: b[1]}])
def test_a_bfloat16_model_that_normalises_by_itself(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    model = Pixels().bfloat16().eval()
    pixels = 1000 + torch.rand(3, 240, 4)  # in bfloat16 all of them are 1000
    with heard(model) as given:
        wrapped = nervecode.wrap(model).fit([(pixels[0], Y)], **options)
        wrapped.calibrate([(pixels[1], Y)], **options).score(pixels[2])
    assert {x.dtype for x in given} == {torch.float32}
    assert same(given[0], pixels[0]) and same(given[1], pixels[0]) and same(given[2], pixels[1])
    known = nervecode.wrap(model).fit([(pixels[0], Y)]).calibrate([pixels[1]])
    assert torch.equal(wrapped.score(pixels[2])[1].p_value, known.score(pixels[2])[1].p_value)


@pytest.mark.parametrize("kind", ["array", "mapping", "call"])
def test_what_the_model_refuses_is_cast_after_one_trial_in_each_pass(kind: str) -> None:
    make: Callable[[np.ndarray, Tensor], Any] = {
        "array": lambda x, y: (x, y),
        "mapping": lambda x, y: {"input": x, "label": y},
        "call": lambda x, y: (x, {"of": [x]}, y),
    }[kind]
    options = {"call": lambda m, b: m(b[1]["of"][0]), "labels": lambda b: b[2]}
    x = np.random.default_rng(0).normal(size=(480, 4))
    loader = [make(x[rows : rows + 40], Y[:40]) for rows in range(0, 480, 40)]
    calls = []
    model = linear()
    model[0].register_forward_pre_hook(lambda _, args: calls.append(args[0].dtype))
    wrapped = nervecode.wrap(model).fit(loader[:6], **(options if kind == "call" else {}))
    assert calls == [torch.float64] + 6 * [torch.float32]
    calls.clear()
    wrapped.calibrate(loader[6:], **(options if kind == "call" else {}))
    assert calls == [torch.float64] + 6 * [torch.float32]
    known = nervecode.wrap(linear())
    whole = torch.from_numpy(x).float()
    known.fit([(part, Y[:40]) for part in whole[:240].split(40)]).calibrate(whole[240:].split(40))
    fresh = torch.randn(20, 4)
    assert torch.equal(wrapped.score(fresh)[1].p_value, known.score(fresh)[1].p_value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_trial_where_the_dtypes_agree(dtype: torch.dtype) -> None:
    model, x = linear().to(dtype), torch.zeros(2, 4, dtype=dtype)
    for batch, call in (((x, Y[:2]), None), ({"x": [x], "y": Y[:2]}, lambda m, b: m(b["x"][0]))):
        with heard(model) as given:
            [found.run() for found in read_batches([batch, batch], model, call=call)]
        assert len(given) == 2 and same(given[0], x)


def test_nothing_is_cast_to_one_of_several_dtypes_or_to_none() -> None:
    both = linear().append(nn.Linear(3, 3).double())
    [found] = read_batches([torch.zeros(2, 4, dtype=torch.float64)], both)
    with heard(both) as given, pytest.raises(RuntimeError, match="dtype"):
        found.run()
    assert len(given) == 1
    [found] = read_batches([torch.zeros(2, 4, dtype=torch.float64)], nn.Flatten())
    assert found.run().dtype == torch.float64


def test_it_is_decided_by_the_first_batch_of_another_dtype_and_anew_in_each_pass() -> None:
    model, x = linear(), torch.zeros(4, 4)
    batches = [x, x.double(), x.half(), x]
    with heard(model) as given:
        [found.run() for found in read_batches(batches, model)]
        assert [part.dtype for part in given] == [
            *(torch.float32, torch.float64, torch.float32, torch.float32, torch.float32)
        ]
        given.clear()
        [found.run() for found in read_batches([x.half()], model)]
        assert [part.dtype for part in given] == [torch.float16, torch.float32]


class Odd(nn.Module):
    """Counts its calls, draws random numbers of all kinds, and writes to its input."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("calls", torch.zeros(()))
        self.seen: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(len(x))
        noise = torch.rand(()) + random.random() + np.random.random()
        return self.layer(x.mul_(2).float()) + 0 * noise


def test_the_trial_leaves_no_trace() -> None:
    model, x = Odd(), torch.ones(6, 4, dtype=torch.float64)
    states = torch.get_rng_state(), random.getstate(), str(np.random.get_state())
    [found] = read_batches([x.numpy()], model)
    assert torch.equal(states[0], torch.get_rng_state()) and states[1] == random.getstate()
    assert states[2] == str(np.random.get_state())
    assert model.calls == 0 and model.seen == []
    assert (x == 1).all()
    assert same(found.run()[:1].detach(), model.layer(torch.full((1, 4), 2.0)).detach())
    assert model.calls == 1 and all(p.grad is None for p in model.parameters())


def test_inputs_that_were_tried_are_not_counted_twice() -> None:
    """Calibration knows repeated inputs by what the model is given."""
    x = np.random.default_rng(0).normal(size=(120, 4))
    with pytest.warns(UserWarning) as told:
        wrapped = nervecode.wrap(linear()).fit([(x, Y[:120])])
        wrapped.calibrate([np.concatenate([x[:60] + 1, x[:60] + 1])])
    assert any("50% of the 120 inputs repeat others" in str(each.message) for each in told)


def test_a_model_that_cannot_be_put_back_is_tried_too() -> None:
    model = linear()
    model.stream = iter(range(9))
    with heard(model) as given:
        [found] = read_batches([np.zeros((2, 4))], model)
        found.run()
    assert [x.dtype for x in given] == [torch.float64, torch.float32]


def test_of_two_errors_that_of_the_cast_batch_is_told() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        nervecode.wrap(linear()).fit([(np.zeros((6, 5)), Y[:6])])


def test_autocast_around_a_pass_is_around_the_trial() -> None:
    """What autocast casts by itself is left to it, as in score."""
    model = linear().bfloat16()
    x = torch.randn(240, 4)
    with heard(model) as given, torch.autocast("cpu", dtype=torch.bfloat16):
        wrapped = nervecode.wrap(model).fit([(x, Y)]).calibrate([x + 1])
        wrapped.score(x)
    assert {part.dtype for part in given} == {torch.float32}


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(4, 3, batch_first=True)

    def forward(self, x: PackedSequence) -> Tensor:
        return self.lstm(x)[1][0][0]


def test_packed_and_nested_sequences_are_cast_as_tensors_are() -> None:
    packed = pack_sequence([torch.ones(3, 4), torch.ones(2, 4)]).to(torch.float64)
    [found] = read_batches([packed], Recurrent())
    assert found.run().dtype == torch.float32
    ragged = torch.nested.nested_tensor([torch.ones(3, 4), torch.ones(2, 4)], dtype=torch.float64)
    [found] = read_batches([ragged], nn.Linear(4, 3))
    assert found.run().dtype == torch.float32
    [found] = read_batches([ragged], nn.Identity())
    assert found.run().dtype == torch.float64


def test_floating_dtypes_are_found_wherever_tensors_are() -> None:
    pair = namedtuple("pair", "a b")(torch.zeros(1).half(), 3.0)
    packed = pack_sequence([torch.zeros(2, 1).bfloat16()])
    assert floating_dtypes([{"a": (np.zeros(2), "x", Y)}, pair, [packed]]) == {
        *(torch.float64, torch.float16, torch.bfloat16)
    }
    assert floating_dtypes({"a": Y, "b": [None, np.arange(3)]}) == set()
