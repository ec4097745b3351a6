"""One call, one answer: score, what it refuses to say, and what it never does to the model."""

from __future__ import annotations

import copy
import pickle  # noqa: TID251
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import nervecode
from nervecode.errors import InputError, NotReadyError
from nervecode.layers import WrappedModel
from tests.layers.zoo import mlp

pytestmark = pytest.mark.filterwarnings("ignore:.*(coded|inputs|batches|nested|Quant|quant)")


def data(seed: int, n: int = 150) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(n, 6, generator=random), torch.arange(n) % 4)]


def ready(model: nn.Module | None = None, layers: object = "all_linear") -> WrappedModel:
    torch.manual_seed(0)
    wrapped = nervecode.wrap((model or mlp()).eval(), layers)
    return wrapped.fit(data(0)).calibrate(data(1))


def assert_invalid(found, size: int, why: str) -> None:
    assert why in found.remark
    assert found.valid.tolist() == [False] * size
    assert found.flag(0.5).all()
    for numbers in (found.score, found.p_value, found.percentile):
        assert numbers.shape == (size,)
        assert numbers.isnan().all()


# What it gives


def test_score_is_the_output_and_the_surprise_of_one_call() -> None:
    wrapped, x = ready(), torch.randn(5, 6)
    output, found = wrapped.score(x)
    assert torch.equal(output, wrapped.model(x))
    wrapped(x)
    expected = wrapped.surprise()
    for name in ("score", "surprise", "p_value", "percentile", "by_layer"):
        assert torch.equal(getattr(found, name), getattr(expected, name))
    assert torch.equal(found.flag(0.05), found.p_value <= 0.05)
    assert found.valid.all() and found.remark == ""


def test_scores_of_threads_are_their_own() -> None:
    wrapped, inputs = ready(), [torch.randn(1 + i % 5, 6) for i in range(64)]
    expected = [wrapped.score(x) for x in inputs]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(wrapped.score, inputs))
    for (output, found), (output_, found_) in zip(answers, expected, strict=True):
        assert torch.equal(output, output_)
        assert torch.equal(found.p_value, found_.p_value)


def test_score_before_calibration_has_no_p_value() -> None:
    found = nervecode.wrap(mlp(), "all_linear").score(torch.randn(5, 6))[1]
    assert found.score.isfinite().all() and found.valid.all()
    with pytest.raises(NotReadyError, match="p_value: the aggregate 'mean' is not calibrated"):
        _ = found.p_value


# A number that is not for this input, model or mode


@pytest.mark.parametrize("way", ["model", "generate", "bypass", "recording", "failing"])
def test_surprise_refuses_once_the_model_has_run_otherwise(way: str) -> None:
    wrapped, x = ready(), torch.randn(5, 6)
    wrapped.model.generate = lambda x: wrapped.model(x)
    wrapped(x)
    wrapped.surprise()
    if way == "model":
        wrapped.model(x)
    elif way == "generate":
        wrapped.generate(x)
    elif way == "bypass":
        with wrapped.bypass():
            wrapped(x)
    elif way == "recording":
        with wrapped.recording():
            wrapped.model(x)
    else:
        with pytest.raises(RuntimeError):
            wrapped(x[:, :3])
    with pytest.raises(NotReadyError, match="no trace"):
        wrapped.surprise()
    wrapped(x)
    wrapped.surprise()


class Exits(nn.Module):
    """Leaves early where it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 4)
        self.exit = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x).relu()
        return self.head(x if self.exit else self.second(x).relu())


def test_a_layer_that_does_not_run_leaves_nothing_valid() -> None:
    wrapped, x = ready(Exits()), torch.randn(5, 6)
    wrapped.model.exit = True
    with pytest.warns(UserWarning, match="layer 'second' was calibrated and did not run"):
        output, found = wrapped.score(x)
    assert torch.equal(output, wrapped.model(x))
    assert_invalid(found, 5, "layer 'second'")
    assert found.layer("second").isnan().all() and found.layer("first").isfinite().all()
    wrapped.model.exit = False
    assert wrapped.score(x)[1].valid.all()


def test_a_layer_that_ran_in_part_of_the_batches_is_left_out_by_name() -> None:
    wrapped, x = nervecode.wrap(Exits().eval(), ["first", "second"]), data(1)[0][0]

    def call(model: nn.Module, batch: Tensor) -> Tensor:
        model.exit = bool(batch.sum() > 0)
        return model(batch)

    wrapped.fit(data(0))
    with pytest.warns(UserWarning, match="layer 'second' was coded in 1 of 2 batches"):
        wrapped.calibrate([x.abs(), -x.abs()], call=call)
    for exits in (True, False):
        wrapped.model.exit = exits
        found = wrapped.score(x[:5])[1]
        assert found.valid.all()
        assert "second" not in found.layers


def test_a_layer_that_never_ran_stays_watched_and_says_so() -> None:
    model = Exits().eval()
    model.exit = True
    wrapped = nervecode.wrap(model, ["first", "second"])
    with pytest.warns(UserWarning, match="fit: layer 'second' did not run"):
        wrapped.fit(data(0))
    assert wrapped.layer_names == ("first", "second", "head:label")
    wrapped.calibrate(data(1))
    model.exit = False
    with pytest.warns(UserWarning, match="'second' is not coded: it did not run while the codes"):
        assert wrapped.score(torch.randn(5, 6))[1].valid.all()


@pytest.mark.parametrize(
    "extra", [nn.Dropout(0.5), nn.BatchNorm1d(12), nn.RReLU()], ids=lambda m: type(m).__name__
)
def test_training_mode_is_said_and_gives_no_p_value(extra: nn.Module) -> None:
    wrapped, x = ready(nn.Sequential(nn.Linear(6, 12), extra, nn.Linear(12, 4))), data(2)[0][0]
    wrapped.train()
    with pytest.warns(UserWarning, match="in training mode, and was calibrated in evaluation"):
        found = wrapped.score(x)[1]
    assert_invalid(found, len(x), "training mode")


@pytest.mark.parametrize(
    "extra", [nn.Dropout(0.0), nn.ReLU(), nn.BatchNorm1d(12, track_running_stats=False)]
)
def test_a_model_that_does_not_heed_its_mode_scores_in_any(extra: nn.Module) -> None:
    wrapped = ready(nn.Sequential(nn.Linear(6, 12), extra, nn.Linear(12, 4)))
    assert wrapped.train().score(torch.randn(5, 6))[1].valid.all()


def step(model: nn.Module) -> None:
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1)
    model(torch.randn(5, 6)).sum().backward()
    optimiser.step()


def replace(model: nn.Module) -> None:
    model[0].weight = nn.Parameter(torch.randn_like(model[0].weight))


@pytest.mark.parametrize("change", [step, replace, lambda m: m.load_state_dict(mlp().state_dict())])
def test_other_weights_are_said_and_give_no_p_value(change: Callable[[nn.Module], None]) -> None:
    wrapped, x = ready(), torch.randn(5, 6)
    before = copy.deepcopy(wrapped.model.state_dict())
    expected = wrapped.score(x)[1].p_value
    change(wrapped.model)
    with pytest.warns(UserWarning, match="other weights than its codes were made for"):
        found = wrapped.score(x)[1]
    assert_invalid(found, 5, "other weights")
    wrapped.model.load_state_dict(before)  # the same weights, in another version
    assert torch.equal(wrapped.score(x)[1].p_value, expected)
    change(wrapped.model)
    with pytest.warns(UserWarning, match="calibrate: the weights have changed since the fit"):
        wrapped.calibrate(data(1))
    assert wrapped.score(x)[1].valid.all()


def test_loading_codes_of_other_weights_is_said(tmp_path) -> None:
    wrapped = ready()
    wrapped.save(tmp_path / "codes.safetensors")
    other = mlp().eval()
    with pytest.warns(UserWarning, match=r"codes\.safetensors: the model has other weights"):
        again = nervecode.load(tmp_path / "codes.safetensors", other)
    assert not again.score(torch.randn(5, 6))[1].valid.any()
    other.load_state_dict(wrapped.model.state_dict())
    x = torch.randn(5, 6)
    assert torch.equal(again.score(x)[1].p_value, wrapped.score(x)[1].p_value)


def test_disabled_coding_leaves_nothing_valid() -> None:
    wrapped, x = ready(), torch.randn(5, 6)
    wrapped.disable_coding()
    output, found = wrapped.score(x)
    assert torch.equal(output, wrapped.model(x))
    assert_invalid(found, 5, "coding is disabled or bypassed")
    fresh = nervecode.wrap(mlp(), "all_linear")
    with fresh.bypass():
        found = fresh.score(x)[1]
    assert found.score.isnan().all() and not found.valid.any()


# Whatever goes wrong in the watching


@pytest.mark.parametrize("error", [ZeroDivisionError("boom"), MemoryError(), InputError("no")])
def test_an_error_in_a_coder_never_reaches_the_model(error: Exception) -> None:
    wrapped, x = ready(), torch.randn(5, 6)
    expected = wrapped.model(x)

    def fail(*_: object) -> None:
        raise error

    wrapped.coder("2").reducer.forward = fail
    with pytest.warns(UserWarning, match="layer '2' is not coded: .*") as told:
        for _ in range(3):
            output, found = wrapped.score(x)
    assert len([w for w in told if "is not coded" in str(w.message)]) == 1
    assert torch.equal(output, expected)
    assert_invalid(found, 5, "layer '2'")


def test_an_error_in_pricing_never_reaches_the_model(monkeypatch) -> None:
    wrapped, x = ready(), torch.randn(5, 6)
    monkeypatch.setattr("nervecode.layers.reading.price_together", lambda layers: 1 / 0)
    with pytest.warns(UserWarning, match="layer '0' is not coded: ZeroDivisionError"):
        output, found = wrapped.score(x)
    assert torch.equal(output, wrapped.model(x))
    assert_invalid(found, 5, "layer '0'")


def test_where_warnings_are_errors_the_model_still_answers(caplog) -> None:
    wrapped, x = ready(Exits()), torch.randn(5, 6)
    wrapped.model.exit = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        output, found = wrapped.score(x)
    assert torch.equal(output, wrapped.model(x))
    assert not found.valid.any()
    assert "layer 'second' was calibrated and did not run" in caplog.text


# Modes of computing


class Checkpointed(nn.Module):
    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.body, self.head, self.reentrant = nn.Linear(6, 8), nn.Linear(8, 4), reentrant

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(checkpoint(self.body, x, use_reentrant=self.reentrant)))


@pytest.mark.parametrize("fitted", [True, False])
@pytest.mark.parametrize("reentrant", [True, False])
def test_layers_in_a_checkpoint(reentrant: bool, fitted: bool) -> None:
    torch.manual_seed(0)
    model, x = Checkpointed(reentrant), torch.randn(5, 6, requires_grad=True)
    bare = copy.deepcopy(model)
    wrapped = nervecode.wrap(model, "all_linear")
    if fitted:
        wrapped.fit(data(0))
    loss = wrapped(x).square().sum()
    if reentrant and not fitted:
        with pytest.warns(UserWarning, match="layer 'body' ran without gradients"):
            nervecode.wrap(model, "all_linear")(x)
        wrapped(x)
    (loss + 0 * wrapped.coding_loss()).backward()
    bare(x).square().sum().backward()
    for ours, theirs in zip(model.parameters(), bare.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)
    if not fitted:
        assert all(p.grad is not None for p in wrapped.coders.parameters())
    assert wrapped.surprise().layers  # what runs again in backward is not a call


def inplace(flag: bool) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(inplace=flag), nn.Linear(12, 4))


@pytest.mark.parametrize("reduce", ["mean", "mean_std", "max"])
def test_a_later_in_place_operation_changes_no_code(reduce: str) -> None:
    x, traces, grads = torch.randn(5, 6), [], []
    for flag in (False, True):
        wrapped = nervecode.wrap(inplace(flag), "all_linear")
        wrapped.fit(data(0), length_power=1.0, reduce=reduce)
        wrapped(x)
        wrapped.coding_loss().backward()
        grads.append(wrapped.model[0].weight.grad)
        traces.append(wrapped.forward_with_trace(x)[1])
    torch.testing.assert_close(grads[1], grads[0])
    for name, trace in traces[0].items():
        torch.testing.assert_close(traces[1][name].surprise, trace.surprise)
        assert torch.equal(traces[1][name].vector, trace.vector)


@pytest.mark.parametrize("reduce", ["mean", "mean_std", "max"])
def test_a_later_in_place_operation_on_maps(reduce: str) -> None:
    x, grads = torch.randn(5, 3, 6, 6), []
    for flag in (False, True):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=flag), nn.Flatten())
        wrapped = nervecode.wrap(model, "0").fit([torch.randn(40, 3, 6, 6)], reduce=reduce)
        wrapped(x)
        wrapped.coding_loss().backward()
        grads.append(model[0].weight.grad)
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_models_of_other_dtypes(dtype: torch.dtype) -> None:
    wrapped = ready(mlp().to(dtype))
    x = torch.randn(5, 6, dtype=dtype)
    output, found = wrapped.score(x)
    assert torch.equal(output, wrapped.model(x))
    assert found.valid.all() and found.p_value.isfinite().all()
    assert "4:label" in found.layers


def test_codes_fitted_in_inference_mode_serve_outside() -> None:
    torch.manual_seed(0)
    wrapped = nervecode.wrap(mlp().eval(), "all_linear")
    with torch.inference_mode():
        wrapped.fit(data(0)).calibrate(data(1))
    x = torch.randn(5, 6, requires_grad=True)
    (wrapped(x).sum() + wrapped.coding_loss()).backward()
    assert wrapped.surprise().valid.all()
    wrapped.load_state_dict(wrapped.state_dict())
    with torch.inference_mode():
        assert wrapped.score(x)[1].valid.all()


def test_lazily_built_layers() -> None:
    wrapped = ready(nn.Sequential(nn.LazyLinear(12), nn.ReLU(), nn.LazyLinear(4)))
    assert wrapped.layer_names == ("0", "2", "2:label")
    assert wrapped.score(torch.randn(5, 6))[1].valid.all()


class Keyword(nn.Module):
    """Calls its head by keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(6, 8), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(input=self.body(x).relu())


def test_a_head_that_is_called_by_keyword_has_a_label_code() -> None:
    wrapped = ready(Keyword())
    assert "head:label" in wrapped.layer_names
    assert wrapped.score(torch.randn(5, 6))[1].valid.all()


@pytest.mark.parametrize("name", ["keys", "items", "a/b", "a%2Fb", "pop"])
def test_names_that_a_module_dict_has_uses_for(name: str, tmp_path) -> None:
    inner, outer = nn.Module(), nn.Module()
    inner._modules[name], outer._modules[name] = nn.Linear(6, 4), inner
    outer.forward = lambda x: inner._modules[name](x)
    wrapped = ready(outer, [name, f"{name}.{name}"])
    assert wrapped.layer_names == (f"{name}.{name}", name, f"{name}.{name}:label")
    assert not wrapped.score(torch.randn(5, 6))[1].layer(f"{name}.{name}").isnan().any()
    wrapped.save(tmp_path / "codes.safetensors")
    again = nervecode.load(tmp_path / "codes.safetensors", outer)
    assert again.layer_names == wrapped.layer_names
    again.load_state_dict(wrapped.state_dict())


def test_a_tied_module_is_watched_once_by_either_name() -> None:
    model = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    model.append(model[0])
    wrapped = nervecode.wrap(model, "2")
    assert wrapped.layer_names == ("0",)
    assert list(wrapped.forward_with_trace(torch.randn(5, 6))[1]) == ["0", "0#2"]


def test_a_compiled_model_is_watched_in_its_graph() -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = mlp().eval()
    wrapped = nervecode.wrap(torch.compile(model, backend="eager"), "all_linear")
    wrapped.fit(data(0)).calibrate(data(1))
    plain = nervecode.wrap(model, "all_linear").fit(data(0)).calibrate(data(1))
    x = torch.randn(5, 6)
    output, found = wrapped.score(x)
    assert torch.equal(output, model(x))
    torch.testing.assert_close(found.p_value, plain.score(x)[1].p_value)
    assert found.layers == tuple(f"_orig_mod.{name}" for name in plain.layer_names)


def test_a_wrapped_model_is_not_scripted() -> None:
    wrapped = nervecode.wrap(mlp().eval(), "all_linear")
    with pytest.raises(
        NotReadyError, match=r"torch.jit.script: the model is wrapped, .* unwrap\(\)"
    ):
        torch.jit.script(wrapped.model)
    assert repr(wrapped.model[0]._forward_hooks)  # it has no name, and can be shown
    x = torch.randn(5, 6)
    torch.testing.assert_close(torch.jit.script(wrapped.unwrap())(x), wrapped.model(x))


def test_a_score_that_fails_is_nan_and_flagged() -> None:
    wrapped = nervecode.wrap(mlp().eval(), "all_linear").fit(data(0)).calibrate(data(1))
    remarks = []

    def score(x: Tensor) -> tuple[Tensor, ...]:
        output, surprise = wrapped.score(x.unsqueeze(0))
        assert surprise.layers == tuple(wrapped.calibration.layers)
        remarks.append(surprise.remark)
        return output, surprise.p_value, surprise.percentile, surprise.flag(0.05), surprise.valid

    x = torch.randn(5, 6)
    with pytest.warns(UserWarning, match="score: RuntimeError: vmap"):
        output, p_value, percentile, flag, valid = torch.func.vmap(score)(x)
    torch.testing.assert_close(output.squeeze(1), wrapped.model(x))
    assert p_value.isnan().all()
    assert percentile.isnan().all()
    assert flag.all()
    assert not valid.any()
    assert remarks[0].endswith(": no p-value is given")


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
def test_a_model_compiled_in_place_is_watched_uncompiled(early: bool) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = mlp().eval()
    if early:
        model.compile(backend="eager")
        compiled = model._compiled_call_impl
    wrapped = nervecode.wrap(model, "all_linear").fit(data(0)).calibrate(data(1))
    if not early:
        model.compile(backend="eager")
        compiled = model._compiled_call_impl
    x = torch.randn(5, 6)
    with pytest.warns(
        UserWarning, match="was compiled in place, and runs uncompiled while it is w"
    ):
        output, found = wrapped.score(x)
    torch.testing.assert_close(output, model(x))
    assert found.valid.all()
    together = torch.compile(wrapped.score, backend="eager", fullgraph=True)(x)[1]
    torch.testing.assert_close(together.p_value, found.p_value)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    model(torch.randn(7, 6))  # unwatched: in a graph
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs
    model.compile(backend="eager")  # anew
    again = model._compiled_call_impl
    torch.testing.assert_close(wrapped.score(x)[1].p_value, found.p_value)
    wrapped.unwrap()
    assert again is not compiled and model._compiled_call_impl is again


@pytest.mark.slow
@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("own", [True, False])
def test_a_forward_that_was_compiled_is_watched_uncompiled(early: bool, own: bool) -> None:
    """`model.forward = torch.compile(model.forward)`, of a class of one's own or of PyTorch's."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = (Keyword() if own else mlp()).eval()
    plain = model.forward
    compiled = torch.compile(plain, backend="eager")
    if early:
        model.forward = compiled
    wrapped = nervecode.wrap(model, "all_linear").fit(data(0)).calibrate(data(1))
    if not early:
        model.forward = compiled
    x = torch.randn(5, 6)
    with pytest.warns(
        UserWarning, match="was compiled in place, and runs uncompiled while it is w"
    ):
        output, found = wrapped.score(x)
    assert found.valid.all() and found.p_value.isfinite().all()
    torch.testing.assert_close(output, plain(x))
    together = torch.compile(wrapped.score, backend="eager")(x)[1]
    torch.testing.assert_close(together.p_value, found.p_value)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    model(torch.randn(7, 6))  # unwatched: in a graph
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > graphs
    wrapped.unwrap()
    assert vars(model)["forward"] is compiled


@pytest.mark.parametrize("how", ["whole", "part", "module"])
def test_copies_of_what_was_compiled_are_watched(how: str) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    part = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    model = nn.Sequential(part, nn.Linear(6, 4)).eval()
    if how == "module":
        model[0] = torch.compile(part, backend="eager")
    else:
        (model if how == "whole" else part).compile(backend="eager")
    wrapped = nervecode.wrap(model, "all_linear").fit(data(0)).calibrate(data(1))
    x = torch.randn(5, 6)
    expected = wrapped.score(x)[1].p_value
    for twin in (copy.deepcopy(wrapped), pickle.loads(pickle.dumps(wrapped))):  # noqa: S301
        assert torch.equal(twin.score(x)[1].p_value, expected)
        twin.model.compile(backend="eager")
        assert torch.equal(twin.score(x)[1].p_value, expected)
        bare = twin.unwrap()
        assert not any("stands" in type(value).__module__ for m in bare.modules()
                       for value in vars(m).values())  # fmt: skip
        assert torch.equal(wrapped.score(x)[1].p_value, expected)


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [True, False])
def test_a_checkpoint_runs_a_compiled_part_the_same_way_again(in_place: bool) -> None:
    """Watched, it runs as it is; compiled, it would keep other tensors for its gradient."""
    torch._dynamo.reset()
    torch.manual_seed(0)
    model = Checkpointed(reentrant=False)
    model.body = plain = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 8), nn.Sigmoid())
    x = torch.randn(5, 6)
    model(x).sum().backward()
    expected = plain[0].weight.grad.clone()
    if in_place:
        plain.compile(backend="aot_eager")
    else:
        model.body = torch.compile(plain, backend="aot_eager")
    inner = "body.0" if in_place else "body._orig_mod.0"
    wrapped = nervecode.wrap(model, [inner, "head"])
    for call in (wrapped, model, wrapped):
        plain[0].weight.grad = None
        call(x).sum().backward()
        torch.testing.assert_close(plain[0].weight.grad, expected)


@pytest.mark.slow
@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize("within", [True, False])
def test_a_compiled_part_runs_as_it_is_where_it_is_watched_within(
    in_place: bool, within: bool
) -> None:
    torch._dynamo.reset()
    torch.manual_seed(0)
    calls = list[int]()

    def backend(graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        def run(*args: Tensor) -> Any:
            calls.append(1)
            return graph(*args)

        return run

    plain = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    part = plain if in_place else torch.compile(plain, backend=backend)
    model = nn.Sequential(part, nn.Linear(6, 4)).eval()
    inner = "0.0" if in_place else "0._orig_mod.0"
    layers = [inner, "1"] if within else ["0", "1"]
    if in_place:
        part.compile(backend=backend)  # with the hooks of its own
    kept = part._compiled_call_impl, vars(part).get("forward")
    one, other = (nervecode.wrap(model, layers) for _ in range(2))
    x = torch.randn(5, 6)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for wrapped in (one, other):
            wrapped.fit(data(0)).calibrate(data(1))
            calls.clear()
            surprise = wrapped.score(x)[1]
            assert surprise.valid.all()
            assert set(layers) <= set(surprise.layers)
            assert bool(calls) != (within or in_place)
    assert any("was compiled in place" in str(w.message) for w in told) == (within or in_place)
    calls.clear()
    output = model(x)
    assert calls  # unwatched: in its graph
    torch.testing.assert_close(output, model[1](plain(x)))
    one.unwrap()
    other.unwrap()
    assert (part._compiled_call_impl, vars(part).get("forward")) == kept


def encoder() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.encoder = nn.TransformerEncoder(layer, 2)
            self.head = nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            mask = x.abs().sum(-1) == 0
            return self.head(self.encoder(x, src_key_padding_mask=mask)[:, 0])

    torch.manual_seed(0)
    return Net().eval()


@pytest.mark.parametrize("layers", ["all_blocks", "all_linear"])
def test_a_fused_transformer_stays_as_it_is_bit_for_bit(layers: str) -> None:
    model, x = encoder(), torch.randn(60, 5, 16)
    x[:30, 3:] = 0
    with torch.no_grad():
        expected = model(x)
        wrapped = nervecode.wrap(model, layers)
        assert torch.equal(wrapped(x), expected)
        assert torch.equal(model(x), expected)
        wrapped.fit([(x, torch.arange(60) % 3)])
        assert torch.equal(wrapped(x), expected)
        assert wrapped.surprise().num_layers >= 2
    copied = copy.deepcopy(wrapped)
    wrapped.unwrap()
    assert all("forward" not in vars(module) for module in model.modules())
    with torch.no_grad():
        assert torch.equal(copied(x), expected)
        assert copied.surprise().num_layers >= 2


def test_two_wrappers_of_a_fused_layer_come_off_in_any_order() -> None:
    for first in (0, 1):
        model, x = encoder(), torch.randn(4, 5, 16)
        wrappers = [nervecode.wrap(model, "all_blocks") for _ in range(2)]
        wrappers[first].unwrap()
        rest = wrappers[1 - first]
        with torch.no_grad():
            rest(x)
        assert rest.surprise().num_layers == 2
        rest.unwrap()
        assert not any("forward" in vars(module) for module in model.modules())
        with torch.no_grad():
            model(x)


def test_a_forward_that_another_put_over_a_stand_stays() -> None:
    model, x = encoder(), torch.randn(4, 5, 16)
    layer = model.encoder.layers[0]
    wrapped, calls = nervecode.wrap(model, "all_blocks"), []
    stand = layer.forward
    layer.forward = lambda *args, **kwargs: calls.append(1) or stand(*args, **kwargs)
    nervecode.wrap(model, "all_blocks").unwrap()
    wrapped.unwrap()
    with torch.no_grad():
        model(x)
    assert calls == [1]


def test_quantised_layers() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 4)).eval()
    quantised = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, torch.qint8)
    wrapped, x = ready(quantised, ["0", "1", "2"]), torch.randn(5, 6)
    output, found = wrapped.score(x)
    assert torch.equal(output, quantised(x))
    assert found.valid.all()


class Static(nn.Module):
    """Returns a quantised tensor."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.quantize_per_tensor(x, 0.1, 0, torch.qint8)


def test_a_quantised_activation_is_coded_by_its_values() -> None:
    model = nn.Sequential(Static(), nn.Identity())
    x = torch.randn(5, 6)
    _, traces = nervecode.wrap(model, "0").forward_with_trace(x)
    plain = nervecode.wrap(nn.Sequential(nn.Identity()), "0")
    plain.replace_coders({"0": nervecode.wrap(model, "0").coder("0")})
    assert traces["0"].surprise.shape == (5,)


def test_tracing_records_the_model_alone() -> None:
    wrapped, x = ready(), torch.randn(5, 6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(wrapped, x)
    assert torch.equal(traced(x), wrapped.model(x))
