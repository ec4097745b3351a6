"""Traces tell of their call: what it was is not read off the model when they are asked about."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.core import CodingTrace
from nervecode.layers import WrappedModel
from nervecode.scoring import AggregatedSurprise

pytestmark = pytest.mark.filterwarnings(
    "ignore:the model|the codes were replaced|the calibration is of|coding is|calibrate"
)
X = torch.linspace(-1, 1, 30).view(5, 6)
Traces = dict[str, CodingTrace]
Asked = Callable[[WrappedModel], Traces]


def batches(seed: int, shift: float = 0.0) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(120, 6, generator=random) + shift, torch.arange(120) % 3)]


def network() -> nn.Sequential:
    torch.manual_seed(0)
    block = nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.2), nn.ReLU())
    return nn.Sequential(block, nn.Linear(6, 3)).eval()


def ready(model: nn.Module | None = None, layers: str = "all_blocks") -> WrappedModel:
    wrapped = nervecode.wrap(network() if model is None else model, layers)
    return wrapped.fit(batches(0)).calibrate(batches(1))


def refused(surprise: AggregatedSurprise, why: str) -> bool:
    return why in surprise.remark and not surprise.valid.any() and bool(surprise.flag(0.5).all())


def returned(wrapped: WrappedModel) -> Traces:
    return wrapped.forward_with_trace(X)[1]


def recorded(wrapped: WrappedModel) -> Traces:
    with wrapped.recording() as traces:
        wrapped.model(X)
    return dict(traces)


def rebuilt(wrapped: WrappedModel) -> Traces:
    return {name: replace(trace) for name, trace in returned(wrapped).items()}


@torch.no_grad()
def copied(wrapped: WrappedModel) -> Traces:
    return copy.deepcopy(returned(wrapped))


WAYS = [returned, recorded, rebuilt, copied]


@pytest.mark.parametrize("way", WAYS)
def test_traces_of_a_call_in_training_are_refused_afterwards(way: Asked) -> None:
    wrapped = ready()
    traces = way(wrapped.train())
    assert refused(wrapped.eval().aggregate(traces), "training mode")
    traces = way(wrapped)
    wrapped.train()  # after the call
    surprise = wrapped.aggregate(traces)
    assert surprise.valid.all()
    assert torch.equal(surprise.p_value, wrapped.eval().score(X)[1].p_value)


@pytest.mark.parametrize("way", WAYS)
def test_traces_of_other_codes_are_refused(way: Asked) -> None:
    wrapped = ready()
    traces = way(wrapped)
    wrapped.fit(batches(2, 3.0)).calibrate(batches(3, 3.0))
    assert refused(wrapped.aggregate(traces), "the codes were replaced since the call")
    assert wrapped.aggregate(way(wrapped)).valid.all()


def test_codes_that_a_state_dict_brings_are_others() -> None:
    wrapped, other = ready(), ready()
    other.fit(batches(2, 3.0)).calibrate(batches(3, 3.0))
    traces = returned(wrapped)
    wrapped.load_state_dict(other.state_dict())
    assert refused(wrapped.aggregate(traces), "the codes were replaced since the call")


def test_a_later_calibration_of_the_same_codes_and_weights_serves() -> None:
    wrapped = nervecode.wrap(network()).fit(batches(0))
    traces = returned(wrapped)
    wrapped.calibrate(batches(1))
    expected = wrapped.score(X)[1].p_value
    assert torch.equal(wrapped.aggregate(traces).p_value, expected)
    assert torch.equal(copy.deepcopy(wrapped).aggregate(traces).p_value, expected)


def test_a_call_before_the_calibration_is_judged_as_it_was() -> None:
    wrapped = nervecode.wrap(network()).fit(batches(0))
    traces = returned(wrapped.train())
    wrapped.eval().calibrate(batches(1))
    assert refused(wrapped.aggregate(traces), "training mode")


def test_a_calibration_of_other_weights_than_the_call_is_refused() -> None:
    wrapped = ready()
    traces = returned(wrapped)
    with torch.no_grad():
        wrapped.model[1].weight.mul_(2)
    wrapped.calibrate(batches(1))
    assert refused(wrapped.aggregate(traces), "the calibration is of other weights than the call")


def test_traces_of_learned_codes_before_the_calibration_are_refused() -> None:
    wrapped = nervecode.wrap(network())
    traces = returned(wrapped)  # of weights that nobody hashed, as in training
    assert wrapped.aggregate(traces).valid.all()
    wrapped.calibrate(batches(1))
    assert refused(wrapped.aggregate(traces), "or later than it")
    assert wrapped.aggregate(returned(wrapped)).valid.all()


def test_the_call_that_speaks_against_them_decides_on_traces_of_several() -> None:
    wrapped = ready(layers="all_linear")
    good, bad = returned(wrapped), returned(wrapped.train())
    wrapped.eval()
    last = list(good)[-1]
    assert refused(wrapped.aggregate({**good, last: bad[last]}), "training mode")


def test_traces_of_no_call_are_judged_by_the_model_as_it_is() -> None:
    wrapped = ready()
    traces = {
        name: CodingTrace(t.surprise, t.code, t.vector, t.regret)
        for name, t in returned(wrapped).items()
    }
    assert wrapped.aggregate(traces).valid.all()
    assert refused(wrapped.train().aggregate(traces), "training mode")


def test_given_traces_know_the_predicted_classes_of_their_call() -> None:
    wrapped = nervecode.wrap(network()).fit(batches(0), label_code=False)
    wrapped.calibrate(batches(1), by_class=True)
    expected = wrapped.score(X)[1]
    assert torch.equal(wrapped.aggregate(returned(wrapped)).p_value, expected.p_value)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """Graphs of other tests count towards no limit here, and these towards none there."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def whole(wrapped: WrappedModel) -> Callable[[Tensor], Tensor]:
    compiled: Callable[[Tensor], Tensor] = torch.compile(wrapped, backend="eager", fullgraph=True)
    return compiled


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("made", ["whole", "whole of a state dict", "within"])
def test_a_compiled_call_in_training_is_refused_afterwards(made: str) -> None:
    if made == "within":
        wrapped = ready(torch.compile(network(), backend="eager"))
        call: Callable[[Tensor], Tensor] = wrapped
    else:
        wrapped = ready()
        if made == "whole of a state dict":
            state, wrapped = wrapped.state_dict(), nervecode.wrap(network())
            wrapped.load_state_dict(state)
        call = whole(wrapped)
    wrapped.train()
    call(X)
    wrapped.eval()
    assert refused(wrapped.surprise(), "training mode")
    call(X)
    assert torch.equal(wrapped.surprise().p_value, wrapped.score(X)[1].p_value)
    wrapped.train()  # after the call
    assert wrapped.surprise().valid.all()


@pytest.mark.slow
@pytest.mark.usefixtures("fresh_compiler")
def test_weights_that_a_graph_cannot_look_at_are_looked_at_when_it_is_asked_about() -> None:
    wrapped = ready()
    call = torch.compile(wrapped.forward_with_trace, backend="eager", fullgraph=True)
    traces = call(X)[1]
    assert wrapped.aggregate(traces).valid.all()
    with torch.no_grad():
        wrapped.model[1].weight.mul_(2)
    assert refused(wrapped.aggregate(call(X)[1]), "the model has other weights")


def test_recorded_traces_tell_of_the_mask_of_their_call() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.Sequential(nn.Linear(4, 8), layer).eval()
    mask = torch.ones(50, 5, dtype=torch.bool)
    wrapped = nervecode.wrap(model, ["0", "1"]).fit([torch.randn(50, 5, 4)], mask=lambda b: mask)
    wrapped.calibrate([torch.randn(50, 5, 4)], mask=lambda b: mask)
    x, real = torch.randn(3, 5, 4), torch.ones(3, 5, dtype=torch.bool)
    with wrapped.recording(mask=real) as traces:
        model(x)
    assert wrapped.aggregate(traces).valid.all()
    with wrapped.recording() as traces:
        model(x)
    assert not wrapped.aggregate(traces).valid.any()
