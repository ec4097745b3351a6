"""What a model runs beside its weights: forwards, modules, hooks, rates, uncounted statistics."""

from __future__ import annotations

import copy
import functools
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import nervecode
from nervecode.errors import InputError
from nervecode.layers import WrappedModel
from nervecode.scoring import AggregatedSurprise

OTHER_RUN = "the model runs other modules or forwards than its codes were made for"
OTHER_WEIGHTS = "the model has other weights than its codes were made for"
pytestmark = pytest.mark.filterwarnings(f"ignore:{OTHER_RUN}|{OTHER_WEIGHTS}|the model is in train")
X = torch.linspace(-1, 1, 30).view(5, 6)


class Norm(nn.Module):
    """Batch normalisation by hand, which counts nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("var", torch.ones(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.mean, self.var, training=self.training)


def counted() -> nn.Module:
    return nn.BatchNorm1d(6)


def uncounted() -> nn.Module:
    norm = nn.BatchNorm1d(6)
    norm.num_batches_tracked = None
    return norm


def network(norm: Callable[[], nn.Module] = nn.Identity) -> nn.Sequential:
    torch.manual_seed(0)
    body = nn.Linear(6, 6), norm(), nn.ReLU(), nn.Dropout(0.0)
    return nn.Sequential(*body, nn.Linear(6, 3)).eval()


def batches(seed: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    return [(torch.randn(120, 6, generator=random), torch.arange(120) % 3)]


def ready(model: nn.Module) -> WrappedModel:
    return nervecode.wrap(model, "all_linear").fit(batches(0)).calibrate(batches(1))


def assert_refused(surprise: AggregatedSurprise, why: str) -> None:
    assert why in surprise.remark
    assert not surprise.valid.any() and surprise.p_value.isnan().all() and surprise.flag(0.5).all()


# Forwards and modules


def patched(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(model[2], "forward", torch.tanh, raising=False)


def patched_root(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    own = model.forward
    patch.setattr(model, "forward", lambda x: own(2 * x))


def patched_class(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(nn.ReLU, "forward", lambda self, x: x.tanh())


def replaced(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(model._modules, "2", nn.Tanh())


def left_out(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(model._modules, "2", nn.Identity())


def added(model: nn.Module, patch: pytest.MonkeyPatch) -> None:
    patch.setitem(model._modules, "5", nn.Softmax(-1))


@pytest.mark.parametrize("how", [patched, patched_root, patched_class, replaced, left_out, added])
@pytest.mark.parametrize("loaded", [False, True])
def test_other_modules_and_forwards_are_refused(
    how: Callable[..., None], loaded: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = network()
    wrapped = ready(model)
    if loaded:
        wrapped.save(tmp_path / "codes.safetensors")
        wrapped.unwrap()
        wrapped = nervecode.load(tmp_path / "codes.safetensors", model)
    expected = wrapped.score(X)[1].p_value
    assert not expected.isnan().any()
    with monkeypatch.context() as patch:
        how(model, patch)
        output, surprise = wrapped.score(X)
        assert torch.equal(output, model(X))
        assert_refused(surprise, OTHER_RUN)
        with pytest.raises(InputError, match=f"export: {OTHER_RUN}"):
            wrapped.export(tmp_path / "graph.pt2", X)
    assert torch.equal(wrapped.score(X)[1].p_value, expected)


def test_another_forward_can_be_calibrated(monkeypatch: pytest.MonkeyPatch) -> None:
    model = network()
    wrapped = ready(model)
    patched(model, monkeypatch)
    assert wrapped.calibrate(batches(1)).score(X)[1].valid.all()


def test_a_module_of_the_same_kind_is_the_same() -> None:
    model = network()
    wrapped = ready(model)
    expected = wrapped.score(X)[1].p_value
    model[2] = nn.ReLU(inplace=True)
    assert torch.equal(wrapped.score(X)[1].p_value, expected)


@pytest.mark.filterwarnings("ignore:fit. layer|.*nested tensor")
def test_watching_twice_is_no_other_run() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model = nn.TransformerEncoder(layer, 2).eval()
    x = torch.randn(130, 4, 8, generator=torch.Generator().manual_seed(1))
    wrapped = nervecode.wrap(model, ["layers.0", "layers.1"]).fit([x]).calibrate([x + 0.1])
    expected = wrapped.score(x)[1].p_value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nervecode.wrap(model, ["layers.0"])
        assert torch.equal(wrapped.score(x)[1].p_value, expected)
        assert torch.equal(copy.deepcopy(wrapped).score(x)[1].p_value, expected)


# Hooks


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_that_came_later_are_told_once(kind: str) -> None:
    model = network()
    wrapped = ready(model)
    handle = getattr(model[2], kind)(lambda *args: None)
    with pytest.warns(UserWarning, match="module '2' has other forward hooks than when its codes"):
        assert wrapped.score(X)[1].valid.all()  # it may only look on
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.score(X)
        handle.remove()
        wrapped.score(X)


@pytest.mark.parametrize("kind", ["register_forward_hook", "register_forward_pre_hook"])
def test_hooks_that_are_gone_are_told(kind: str) -> None:
    model = network()
    handle = getattr(model[2], kind)(lambda *args: None)
    wrapped = ready(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.score(X)
        nervecode.wrap(model)  # whose hooks only look on
        wrapped.score(X)
    handle.remove()
    with pytest.warns(UserWarning, match="module '2' has other forward hooks than when its codes"):
        wrapped.score(X)


# Plain attributes


class Adapted(nn.Linear):
    """A layer with adapters, as PEFT has them, and some of what other modules keep."""

    def __init__(self, dim: int, slope: int = 1) -> None:
        super().__init__(dim, dim)
        self.slope = slope
        self._disable_adapters, self._active_adapter = False, ["a"]
        self.scaling = {"a": 2.0, "b": 0.5}
        self.temperature, self.unused = 1.0, None
        self.calls, self.seen = 0, list[int]()
        self.options = {"nested": {"dim": 1}}

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.seen.append(len(x))
        self.unused = self.unused or x.mean()
        active = () if self._disable_adapters else self._active_adapter
        scale = sum(self.scaling[name] for name in active)
        return super().forward(x) * scale * self.slope / self.temperature


def adapted() -> nn.Module:
    return nn.Sequential(Adapted(4), nn.LeakyReLU(0.1), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (0, "_disable_adapters", True),
        (0, "_active_adapter", ["b"]),
        (0, "scaling", {"a": 1.0, "b": 0.5}),
        (0, "temperature", 2.0),
        (0, "temperature", torch.tensor([2.0, 2.0, 2.0, 2.0])),
        (0, "slope", 2),
        (1, "negative_slope", 0.5),
    ],
)
def test_other_attributes_are_told_once(module: int, name: str, value: object) -> None:
    model = adapted()
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    wrapped = nervecode.wrap(model).fit([x]).calibrate([x + 0.1])
    before = getattr(model[module], name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what the module itself counts and keeps is no matter
        expected = wrapped.score(x)[1].p_value
    setattr(model[module], name, value)
    with pytest.warns(UserWarning) as told:
        wrapped.score(x)
    assert [str(one.message) for one in told] == [
        f"module '{module}' has {name}={value!r}, and had {name}={before!r} when its codes were "
        "made: if that changes what it computes, fit and calibrate again"
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.score(x)
        setattr(model[module], name, before)
        assert torch.equal(wrapped.score(x)[1].p_value, expected)


def test_attributes_are_those_of_the_last_calibration() -> None:
    model = adapted()
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    wrapped = nervecode.wrap(model).fit([x])
    model[0]._active_adapter[0] = "b"  # in place
    with pytest.warns(UserWarning, match=r"has _active_adapter=\['b'\], and had .*=\['a'\]"):
        wrapped.calibrate([x + 0.1])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.score(x)
    model[0]._active_adapter[0] = "a"
    with pytest.warns(UserWarning, match=r"has _active_adapter=\['a'\], and had .*=\['b'\]"):
        wrapped.score(x)
    for state in "abab":  # after each calibration anew
        wrapped.calibrate([x + 0.1])
        model[0]._active_adapter[0] = "b" if state == "a" else "a"
        with pytest.warns(UserWarning, match="has _active_adapter="):
            wrapped.score(x)


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("_disable_adapters", True, "off"),
        ("_active_adapter", ["a", "b"], "a x 2.0, b x 0.5"),
        ("_active_adapter", "b", "b x 0.5"),
        ("scaling", {"a": 1.0}, "a x 1.0"),
    ],
)
def test_a_file_knows_which_adapters_were_on(
    tmp_path: Path, name: str, value: object, found: str
) -> None:
    model = adapted()
    x = torch.randn(60, 4, generator=torch.Generator().manual_seed(0))
    nervecode.wrap(model).fit([x]).calibrate([x + 0.1]).save(tmp_path / "codes.st")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nervecode.load(tmp_path / "codes.st", model)
    setattr(model[0], name, value)
    with pytest.warns(UserWarning, match=f"module '0': found adapters='{found}', made for 'a x 2"):
        nervecode.load(tmp_path / "codes.st", model)


# Rates


def test_a_dropout_that_is_switched_on_heeds_the_mode() -> None:
    model = network()
    wrapped = ready(model)
    assert wrapped.train().score(X)[1].valid.all()
    model[3].p = 0.5
    assert_refused(wrapped.score(X)[1], "training mode")
    assert wrapped.eval().score(X)[1].valid.all()


# Statistics that count no version


def bare(wrapped: WrappedModel, x: Tensor) -> None:
    wrapped.model(x)


def scored(wrapped: WrappedModel, x: Tensor) -> None:
    assert_refused(wrapped.score(x)[1], "training mode")


def recorded(wrapped: WrappedModel, x: Tensor) -> None:
    with wrapped.recording():
        wrapped.model(x)


def read(wrapped: WrappedModel, x: Tensor) -> None:
    with wrapped.recording(lambda *_: None):
        wrapped.model(x)


def bypassed(wrapped: WrappedModel, x: Tensor) -> None:
    with wrapped.bypass():
        wrapped(x)


def of_another_wrapper(wrapped: WrappedModel, x: Tensor) -> None:
    nervecode.wrap(wrapped.model)(x)


CALLS = [bare, scored, recorded, read, bypassed, of_another_wrapper]


@pytest.mark.parametrize("norm", [Norm, uncounted, counted])
@pytest.mark.parametrize("alone", [False, True])
@pytest.mark.parametrize("call", CALLS)
def test_statistics_of_a_call_in_training_are_other_weights(
    norm: Callable[[], nn.Module], alone: bool, call: Callable[..., None]
) -> None:
    model = network(norm)
    wrapped = ready(model)
    assert wrapped.score(X)[1].valid.all()
    (model[1] if alone else model).train()
    call(wrapped, 3 * batches(2)[0][0] + 5)
    model.eval()
    assert_refused(wrapped.score(X)[1], OTHER_WEIGHTS)


def hashes(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The models that are hashed from now on."""
    hashed: list[Any] = []
    digest = nervecode.layers.guard.condition.weights_digest
    monkeypatch.setattr(
        nervecode.layers.guard.condition, "weights_digest", lambda m: hashed.append(m) or digest(m)
    )
    return hashed


@pytest.mark.parametrize(("norm", "number"), [(nn.Identity, 0), (counted, 0), (Norm, 1)])
def test_calls_that_nobody_watched_cost_a_hash_where_statistics_count_nothing(
    norm: Callable[[], nn.Module], number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = network(norm)
    wrapped = ready(model)
    hashed = hashes(monkeypatch)
    for _ in range(3):
        wrapped.score(X)
    model(X)
    for _ in range(3):
        assert wrapped.score(X)[1].valid.all()
    assert len(hashed) == number


class _Bound(nn.Linear):
    forward = functools.partialmethod(nn.Linear.forward)


@pytest.mark.parametrize("kind", ["scripted", "partial method"])
def test_a_forward_that_is_made_anew_at_each_look_is_the_same(kind: str) -> None:
    torch.manual_seed(0)
    layer = torch.jit.script(nn.Linear(8, 16)) if kind == "scripted" else _Bound(8, 16)
    model = nn.Sequential(nn.Linear(8, 8), layer, nn.ReLU(), nn.Linear(16, 3)).eval()
    wrapped = nervecode.wrap(model).fit([(torch.randn(60, 8), torch.arange(60) % 3)])
    wrapped.calibrate([torch.randn(60, 8)])
    look = wrapped.condition._known[0]
    assert wrapped.score(torch.randn(4, 8))[1].valid.all()
    assert wrapped.condition._known[0] is look and look.is_current()  # nothing was hashed again


def test_a_copy_knows_what_its_codes_were_made_for() -> None:
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).eval()
    wrapped = nervecode.wrap(model, ["2"]).fit([(torch.randn(60, 6), torch.arange(60) % 3)])
    wrapped.calibrate([torch.randn(60, 6)])
    same, other = copy.deepcopy(wrapped), copy.deepcopy(wrapped)
    other.model[1] = nn.Tanh()
    assert same.score(X)[1].valid.all() and not other.score(X)[1].valid.any()


class Wrapping(nn.Module):
    """A layer with an adapter around it, as LoRA makes one."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer = layer
        self.extra = nn.Linear(layer.in_features, layer.out_features)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) + self.extra(x)


def test_a_module_that_was_replaced_is_read_in_its_place(tmp_path: Path) -> None:
    """Its tap stayed on the former one: the codes were of another layer than after a load."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
    wrapped = nervecode.wrap(model.eval(), ["0", "2"])
    model[2], model[4] = Wrapping(model[2]).eval(), nn.Linear(8, 3)
    x, y = torch.randn(300, 6), torch.arange(300) % 3
    wrapped.fit([(x[:150], y[:150])]).calibrate([x[150:]])
    assert wrapped.layer_names == ("0", "2", "4:label")
    wrapped.save(tmp_path / "codes.safetensors")
    told = wrapped.score(x[:9])[1]
    assert told.valid.all()
    again = nervecode.load(tmp_path / "codes.safetensors", model).score(x[:9])[1]
    assert torch.equal(told.p_value, again.p_value)
    assert torch.equal(told.by_layer, again.by_layer)


def test_before_calibration_too_a_number_is_of_mode_and_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3)).eval()
    x, y = torch.randn(300, 6), torch.arange(300) % 3
    wrapped = nervecode.wrap(model).fit([(x[:150], y[:150])])
    assert wrapped.score(x[:4])[1].valid.all()
    model.train()
    with pytest.warns(UserWarning, match="training mode"):
        told = wrapped.score(x[:4])[1]
    assert not told.valid.any() and told.surprise.isnan().all()
    model.eval()
    wrapped.calibrate([x[150:]])
    with torch.no_grad():
        model[0].weight.mul_(3)
    wrapped(x[:4])
    with pytest.warns(UserWarning, match="other weights"):
        assert not wrapped.surprise("mean").valid.any()


class Activated(nn.Module):
    """A model whose activation is a function, and no module."""

    def __init__(self, act: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(6, 9), nn.Linear(9, 3), act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.b(self.act(self.a(x)))
        return out


@pytest.mark.parametrize("kind", ["function", "lambda", "partial", "method", "builtin"])
def test_functions_that_were_replaced_are_told(kind: str) -> None:
    def pair(slope: float) -> Callable[[Tensor], Tensor]:
        if kind == "partial":
            return functools.partial(F.leaky_relu, negative_slope=slope)
        if kind == "method":
            return nn.LeakyReLU(slope).forward
        if kind == "builtin":
            return torch.tanh if slope > 1 else torch.sigmoid
        if kind == "lambda":
            return lambda x: x.clamp_min(slope)
        return F.relu if slope > 1 else F.silu

    torch.manual_seed(0)
    model = Activated(pair(0.1)).eval()
    wrapped = nervecode.wrap(model).fit(batches(0)).calibrate([batches(1)[0][0]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wrapped.score(X)
        copy.deepcopy(wrapped).score(X)
    model.act = pair(5.0)
    with pytest.warns(UserWarning, match="the model has act=.*, and had act="):
        wrapped.score(X)
