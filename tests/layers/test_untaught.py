"""Learned codes that nobody taught are told at calibration, and no others are."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251 (users do; the library itself never does)
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.layers import LearnedCoder, WrappedModel
from nervecode.training import EmaCodebookUpdater

WORDS = "as they were drawn at random, neither fitted nor trained nor loaded"


def data(seed: int = 0) -> Tensor:
    return torch.randn(120, 6, generator=torch.Generator().manual_seed(seed))


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()


def fresh() -> WrappedModel:
    """Of the linear layer the width is known at once, of the ReLU once it runs."""
    return nervecode.wrap(net(), ["0", "1"])


def told(wrapped: WrappedModel) -> list[str]:
    """What calibrating says of codes that nobody taught."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        wrapped.calibrate([data(1)])
    return [str(each.message) for each in heard if WORDS in str(each.message)]


def step(wrapped: WrappedModel, make: Callable[..., torch.optim.Optimizer], *only: str) -> None:
    """A step of an optimiser, of all weights of the codes or of those of some names."""
    wrapped(data())  # an optimiser finds the weights as wide as they stay
    named = wrapped.coders.named_parameters()
    optimiser = make([p for n, p in named if not only or any(part in n for part in only)])
    wrapped(data())
    wrapped.coding_loss().backward()
    optimiser.step()


def test_codes_drawn_at_random_are_told_once() -> None:
    wrapped = fresh()
    [message] = told(wrapped)
    assert message.startswith(f"calibrate: the codes of layer '0' and 1 more are {WORDS}")
    assert message.endswith("call fit first")
    assert told(wrapped) == []
    assert told(wrapped.fit([(data(), torch.arange(120) % 3)])) == []


def scored(wrapped: WrappedModel) -> WrappedModel:
    wrapped.train()(data())
    wrapped.coding_loss().backward()  # without a step
    return wrapped.eval()


def pickled(wrapped: WrappedModel) -> WrappedModel:
    return pickle.loads(pickle.dumps(wrapped))  # noqa: S301 (its own)


def with_the_weights_of_the_bare_model(wrapped: WrappedModel) -> WrappedModel:
    wrapped.load_state_dict(net().state_dict())
    return wrapped


@pytest.mark.parametrize(
    "change",
    [
        scored,
        with_the_weights_of_the_bare_model,
        copy.deepcopy,
        lambda wrapped: copy.deepcopy(scored(wrapped)),
        pickled,
        lambda wrapped: wrapped.half().float(),
        lambda wrapped: nervecode.wrap(net(), "all_linear", num_codes=1, coding_dim=1),
    ],
)
def test_what_teaches_nothing(change: Callable[[WrappedModel], WrappedModel]) -> None:
    assert len(told(change(fresh()))) == 1


def test_codes_in_double_precision_are_those_that_were_drawn() -> None:
    wrapped = fresh().double()
    with pytest.warns(UserWarning, match=f"layer '0' and 1 more are {WORDS}"):
        wrapped.calibrate([data(1).double()])


OPTIMISERS: dict[str, Callable[..., torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.01),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=1e-4),
    "foreach": lambda p: torch.optim.Adam(p, lr=1e-4, foreach=True),
    "fused": lambda p: torch.optim.Adam(p, lr=1e-4, fused=True),
}


@pytest.mark.parametrize("make", OPTIMISERS.values(), ids=OPTIMISERS)
@pytest.mark.parametrize("only", [(), ("centres",), ("projection",)])
def test_a_step_of_an_optimiser_teaches(
    make: Callable[..., torch.optim.Optimizer], only: tuple[str, ...]
) -> None:
    wrapped = fresh()
    step(wrapped, make, *only)
    assert told(wrapped) == []
    assert told(copy.deepcopy(wrapped)) == told(pickled(wrapped)) == []


def test_a_step_of_no_length_does_not() -> None:
    wrapped = fresh()
    step(wrapped, lambda p: torch.optim.SGD(p, lr=0.0))
    assert len(told(wrapped)) == 1


def test_the_layer_that_was_left_out_is_named() -> None:
    wrapped = fresh()
    step(wrapped, OPTIMISERS["SGD"], "0.")
    [message] = told(wrapped)
    assert message.startswith(f"calibrate: the codes of layer '1' are {WORDS}")


@pytest.mark.parametrize("revive_below", [0.0, 2.0])
def test_running_means_and_revival_teach(revive_below: float) -> None:
    wrapped = fresh()
    traces = wrapped.forward_with_trace(data())[1]
    for name, trace in traces.items():
        updater = EmaCodebookUpdater(wrapped.coder(name).codebook, revive_below=revive_below)
        updater.update(trace.vector)
    assert told(wrapped) == []


def test_a_write_through_data_teaches() -> None:
    wrapped = fresh()
    wrapped(data())
    for coder in wrapped.coders.values():
        coder.codebook.centres.data[0, 0] += 1e-3
    assert told(wrapped) == []


@pytest.mark.parametrize("taught", [True, False])
def test_what_was_loaded_is_not_told(tmp_path: Path, taught: bool) -> None:
    wrapped, other = fresh(), fresh()
    for coder in wrapped.coders.values():
        coder.codebook.centres.data += 1e-3  # not the draw of the same seed
    if taught:
        step(wrapped, OPTIMISERS["SGD"])
    wrapped.save(tmp_path / "codes.safetensors")
    assert told(nervecode.load(tmp_path / "codes.safetensors", net())) == []
    other.load_state_dict(wrapped.state_dict())
    assert told(other) == []


def test_codes_of_ones_own_are_not_told() -> None:
    wrapped = fresh()
    coder = LearnedCoder(8)
    nn.init.orthogonal_(coder.codebook.centres)
    wrapped.replace_coders({"0": coder})
    assert told(wrapped) == []


def test_codes_without_values_are_not_compared() -> None:
    with torch.device("meta"):
        coder = LearnedCoder(8)
    assert not coder.is_untrained
    assert not coder.to_empty(device="cpu").is_untrained
    assert not LearnedCoder(8).to("meta").is_untrained


def test_a_width_that_no_graph_can_settle_is_settled_by_a_forward() -> None:
    class Doubled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.act, self.head = nn.Linear(8, 16), nn.ReLU(), nn.Linear(32, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.act(torch.cat([self.layer(x)] * 2, 1)))

    wrapped = nervecode.wrap(Doubled().eval(), ["act"])
    compiled, x = torch.compile(wrapped, backend="eager"), torch.randn(5, 8)
    torch.compiler.reset()
    with pytest.warns(UserWarning, match="does not compile to one graph"):
        compiled(x)
    first = wrapped.surprise()
    wrapped(x)
    eager = wrapped.surprise()
    assert eager.layers == first.layers == ("act",)
    torch.testing.assert_close(first.score, eager.score)
    torch.compiler.reset()  # or the graph of before is used
    compiled(x)
    torch.testing.assert_close(wrapped.surprise().score, eager.score)


def test_a_compiled_forward_codes_as_the_eager_one_that_follows() -> None:
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    wrapped, x = nervecode.wrap(model, ["1"]), torch.randn(5, 8)
    torch.compile(wrapped, backend="eager")(x)
    compiled = wrapped.surprise()
    wrapped(x)
    assert compiled.layers == ("1",)
    torch.testing.assert_close(compiled.score, wrapped.surprise().score)
