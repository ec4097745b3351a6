"""A wrapped model equals the bare one: outputs, gradients, buffers, random numbers, hooks."""

from __future__ import annotations

import copy
import gc
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import nervecode
from nervecode.errors import NotReadyError
from nervecode.layers import WrappedModel
from tests.layers.zoo import ZOO, Case, hooks, mlp, tensors

SILENT = pytest.mark.filterwarnings("ignore:layer .* is not coded")


def build(case: Case) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    return case.build(), torch.randn(case.shape).to(case.dtype)


def step(model: nn.Module, x: Tensor) -> list[Tensor]:
    """Outputs and input gradient of one training step; parameters get theirs."""
    torch.manual_seed(1)  # dropout must draw the same numbers, coded or not
    x = x.clone().requires_grad_()
    outputs = tensors(model(x))
    torch.stack([out.float().square().sum() for out in outputs]).sum().backward()
    assert x.grad is not None
    return [*outputs, x.grad]


def assert_equal(found: list[Tensor], expected: list[Tensor]) -> None:
    assert len(found) == len(expected) > 0
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@SILENT
@pytest.mark.parametrize("name", ZOO)
def test_outputs_and_gradients_are_those_of_the_bare_model(name: str) -> None:
    bare, x = build(ZOO[name])
    watched, _ = build(ZOO[name])
    wrapped = nervecode.wrap(watched, ZOO[name].layers)
    for mode in (True, False):
        bare.train(mode)
        wrapped.train(mode)
        assert_equal(step(wrapped, x), step(bare, x))
        assert wrapped.surprise().num_layers >= 1
    with torch.no_grad():
        assert_equal(tensors(wrapped(x)), tensors(bare(x)))
    assert_equal([p.grad for p in watched.parameters()], [p.grad for p in bare.parameters()])
    assert_equal(list(watched.state_dict().values()), list(bare.state_dict().values()))
    assert all(p.grad is None for p in wrapped.coders.parameters())


@pytest.mark.slow
@SILENT
@pytest.mark.parametrize("name", ["resnet18", "swin", "lstm", "shared", "bf16", "attention"])
def test_fitting_and_calibrating_change_nothing(name: str) -> None:
    bare, x = build(ZOO[name])
    model = copy.deepcopy(bare)
    wrapped = nervecode.wrap(model, ZOO[name].layers)
    batches = [(torch.randn_like(x), torch.arange(len(x)) % 2) for _ in range(3)]
    wrapped.fit(batches, num_classes=2).calibrate(batches)
    assert_equal(list(model.state_dict().values()), list(bare.state_dict().values()))
    assert wrapped.eval().score(x)[1].surprise.isfinite().all()
    wrapped.train()
    assert_equal(step(wrapped, x), step(bare, x))


def test_shared_layer_is_traced_at_each_call() -> None:
    model, x = build(ZOO["shared"])
    wrapped = nervecode.wrap(model, "all_linear")
    _, traces = wrapped.forward_with_trace(x)
    assert list(traces) == ["shared", "shared#2", "head"]
    first, second = model.shared(x), model.shared(model.shared(x).relu())
    for name, activation in (("shared", first), ("shared#2", second)):
        torch.testing.assert_close(traces[name].surprise, wrapped.coder(name)(activation).surprise)
    assert sorted(wrapped.fit([x]).layer_names) == ["head", "shared", "shared#2"]


def test_a_block_whose_width_is_not_what_it_seems_is_skipped_with_one_warning() -> None:
    model, x = build(ZOO["concatenates"])
    wrapped = nervecode.wrap(model, ["0", "2"])
    with pytest.warns(UserWarning, match="layer '0' is not coded: vector: found width 8, .* 4"):
        wrapped(x)
    assert wrapped.surprise().layers == ("2",)
    wrapped.fit([x])  # fitting finds the width in the data
    wrapped(x)
    assert wrapped.surprise().layers == ("0", "2")


def test_a_scripted_part_is_skipped_with_a_warning() -> None:
    model, x = build(ZOO["traced"])
    with pytest.warns(UserWarning, match="layer '0' is not coded: it is scripted"):
        wrapped = nervecode.wrap(model, ["0", "1"])
    output, found = wrapped.score(x)
    assert torch.equal(output, model(x))
    assert found.layers == ("1",)


def test_a_layer_without_a_vector_is_skipped_with_one_warning(recwarn) -> None:
    model = nn.Sequential(nn.Flatten(0), nn.Unflatten(0, (5, 6)), nn.Linear(6, 2))
    wrapped = nervecode.wrap(model, ["0", "2"])
    for _ in range(2):
        wrapped(torch.randn(5, 6))
    told = [str(w.message) for w in recwarn if "not coded" in str(w.message)]
    assert len(told) == 1
    assert told[0].startswith(
        "layer '0' is not coded: activation: found torch.float32 of shape (30,)"
    )


# Hooks


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise ZeroDivisionError("inside the model")


def test_no_hook_after_unwrap() -> None:
    model = mlp()
    wrapped = nervecode.wrap(model, "all_linear")
    assert hooks(model) == 5  # one for each layer, and two around the model's own call
    wrapped(torch.randn(5, 6))
    assert wrapped.unwrap() is model
    assert hooks(model) == 0


def test_unwrap_leaves_the_hooks_of_others() -> None:
    model = mlp()
    model[0].register_forward_hook(lambda *_: None)
    other = nervecode.wrap(model, "all_linear")
    nervecode.wrap(model, "all_linear").unwrap()
    assert hooks(model) == 6
    other.unwrap()
    assert hooks(model) == 1


def test_no_hook_and_no_watcher_after_an_error_inside_the_model() -> None:
    model = nn.Sequential(nn.Linear(6, 4), Fails())
    wrapped = nervecode.wrap(model, "0")
    with pytest.raises(ZeroDivisionError, match="inside the model"):
        wrapped(torch.randn(5, 6))
    model[1] = nn.ReLU()
    model(torch.randn(5, 6))  # nobody watches a call of the bare model
    with pytest.raises(NotReadyError, match="no trace"):
        wrapped.surprise()
    wrapped(torch.randn(7, 6))
    assert wrapped.surprise().surprise.shape == (7,)
    wrapped.unwrap()
    assert hooks(model) == 0


@pytest.mark.slow
def test_no_hook_after_an_error_while_fitting() -> None:
    model = nn.Sequential(nn.Linear(6, 4), Fails()).train()
    wrapped = nervecode.wrap(model, "0")
    with pytest.raises(ZeroDivisionError):
        wrapped.fit([torch.randn(5, 6)])
    assert torch.is_grad_enabled()
    assert model.training
    del wrapped
    gc.collect()
    assert hooks(model) == 0


@pytest.mark.slow
def test_no_hook_after_the_wrapper_is_deleted() -> None:
    model = mlp()
    wrapped = nervecode.wrap(model, "all_linear")
    wrapped(torch.randn(5, 6))
    del wrapped
    gc.collect()
    assert hooks(model) == 0


@pytest.mark.slow
def test_deleting_one_wrapper_leaves_the_other() -> None:
    model, x = mlp(), torch.randn(5, 6)
    kept, gone = nervecode.wrap(model, "all_linear"), nervecode.wrap(model, "all_linear")
    del gone
    gc.collect()
    kept(x)
    assert kept.surprise().num_layers == 3


# Precision and memory layout


def test_autocast_leaves_outputs_alone_and_codes_in_float32() -> None:
    model, x = build(ZOO["resnet18"])
    model.eval()
    wrapped = nervecode.wrap(model)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = model(x)
        output, traces = wrapped.forward_with_trace(x)
    assert output.dtype == torch.bfloat16
    assert torch.equal(output, expected)
    assert {trace.surprise.dtype for trace in traces.values()} == {torch.float32}


def test_autocast_codes_are_those_of_the_same_activations() -> None:
    wrapped, seen = nervecode.wrap(mlp(), "0"), []
    wrapped.model[0].register_forward_hook(lambda m, a, out: seen.append(out))
    with torch.autocast("cpu", torch.bfloat16):
        _, traces = wrapped.forward_with_trace(torch.randn(5, 6))
    assert torch.equal(traces["0"].surprise, wrapped.coder("0")(seen[0].float()).surprise)


def test_channels_last() -> None:
    model, x = build(ZOO["resnet18"])
    model = model.eval().to(memory_format=torch.channels_last)
    x = x.to(memory_format=torch.channels_last)
    wrapped = nervecode.wrap(model)
    with torch.no_grad():
        output, expected = wrapped(x), model(x)
    assert torch.equal(output, expected)
    assert output.stride() == expected.stride()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_casting_the_wrapper_keeps_the_codes_in_float32(dtype: torch.dtype) -> None:
    wrapped = nervecode.wrap(mlp(), "all_linear")
    wrapped.fit([(torch.randn(40, 6), torch.arange(40) % 4)])
    before = copy.deepcopy(wrapped.coders.state_dict())
    wrapped.to(dtype)
    assert wrapped.model[0].weight.dtype == dtype
    after = wrapped.coders.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    wrapped(torch.randn(5, 6, dtype=dtype))
    assert wrapped.surprise().by_layer.dtype == torch.float32


def test_casting_to_double_casts_the_codes() -> None:
    wrapped = nervecode.wrap(mlp(), "all_linear").double()
    wrapped(torch.randn(5, 6, dtype=torch.float64))
    assert wrapped.surprise().by_layer.dtype == torch.float64


# Compiled


def fitted(model: nn.Module) -> WrappedModel:
    wrapped = nervecode.wrap(model, "all_linear")
    batches = [(torch.randn(40, 6), torch.arange(40) % 4)]
    return wrapped.fit(batches).calibrate(batches)


@pytest.mark.slow
@pytest.mark.parametrize("make", [fitted, lambda model: nervecode.wrap(model, "all_linear")])
@pytest.mark.parametrize("name", ["mlp", "shared"])
def test_compiled_in_one_graph_equals_eager(name: str, make) -> None:
    torch._dynamo.reset()
    model, x = build(ZOO[name])
    wrapped = make(model)
    compiled = torch.compile(wrapped, backend="eager", fullgraph=True)
    output, found = compiled(x), wrapped.surprise()
    expected_output, expected = wrapped(x), wrapped.surprise()
    assert torch.equal(output, expected_output)
    assert found.layers == expected.layers
    assert torch.equal(found.by_layer, expected.by_layer)
    torch.testing.assert_close(found.surprise, expected.surprise)
    output, traces = torch.compile(wrapped.forward_with_trace, backend="eager", fullgraph=True)(x)
    assert torch.equal(output, expected_output)
    assert torch.equal(torch.stack([t.surprise for t in traces.values()], 1), expected.by_layer)


@pytest.mark.parametrize("layers", ["all_linear", ["0", "2"]])
def test_random_numbers_stay_as_they_were(layers: str | list[str], tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (4, 2)), nn.Flatten(), nn.Linear(8, 4))
    x, path = torch.randn(120, 6), tmp_path / "codes.safetensors"
    state = torch.get_rng_state()
    wrapped = nervecode.wrap(model.eval(), layers)
    wrapped(x)
    wrapped.save(path)
    nervecode.load(path, model).load_state_dict(wrapped.state_dict())
    nervecode.wrap(model, "last_block").load_state_dict(wrapped.state_dict())
    wrapped.fit([(x[:60], torch.arange(60) % 4)]).calibrate([x[60:]])
    wrapped.score(x)
    assert torch.equal(torch.get_rng_state(), state)


def test_fresh_codes_are_those_that_the_seed_gives() -> None:
    torch.manual_seed(3)
    wrapped = nervecode.wrap(mlp(), "all_linear")
    torch.manual_seed(3)
    mlp()
    for coder in wrapped.coders.values():  # one after another
        assert torch.equal(coder.codebook.centres, torch.randn(16, 8))
        assert torch.equal(
            coder.projection.weight, nn.Linear(coder.projection.in_features, 8, bias=False).weight
        )
