"""Training mode is noticed, however a module's code reads it; what cannot be read is told."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import pytest
import torch
from safetensors import deserialize
from torch import Tensor, nn
from torch.nn import functional as F

import nervecode
from nervecode.layers.guard.mode import ModeUse, mode_use


def drop(module: nn.Module, x: Tensor) -> Tensor:
    return F.dropout(x, 0.5, module.training)


def by_name(module: nn.Module, x: Tensor) -> Tensor:
    return F.dropout(x, 0.5, getattr(module, "training"))  # noqa: B009


def plain(x: Tensor) -> Tensor:
    return F.dropout(x.relu(), 0.5, training=False)


def unnamed(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that does not say what it decorates."""

    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


class Dropper:
    def __call__(self, module: nn.Module, x: Tensor) -> Tensor:
        return drop(module, x)


helpers = types.ModuleType("helpers")
helpers.drop = drop
outer, inner = types.ModuleType("outer"), types.ModuleType("outer.inner")
outer.inner, outer.drop, inner.drop = inner, drop, drop
DROPPER = Dropper()
TABLE = {"drop": drop}
halved = functools.partial(drop)
mode = attrgetter("training")


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.rate = 0.5

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x)


class Autocast(Block):
    @torch.autocast("cpu", enabled=False)
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5, self.training)


class Wrapped(Block):
    @functools.lru_cache  # noqa: B019
    def rescaled(self) -> float:
        return 1.0 if self.training else 2.0


class Unnamed(Block):
    @unnamed
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5, self.training)


class Inner(Block):
    def forward(self, x: Tensor) -> Tensor:
        def inner(h: Tensor) -> Tensor:
            return (lambda: F.dropout(h, 0.5, self.training))()

        return inner(self.linear(x))


class Helper(Block):
    def forward(self, x: Tensor) -> Tensor:
        return drop(self, self.linear(x))


class HelperOfModule(Block):
    def forward(self, x: Tensor) -> Tensor:
        return helpers.drop(self, self.linear(x))


class ByName(Block):
    def forward(self, x: Tensor) -> Tensor:
        return by_name(self, self.linear(x))


class Property(Block):
    @property
    def p(self) -> float:
        return 0.5 * self.training

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), self.p)


class Cached(Block):
    @functools.cached_property
    def p(self) -> float:
        return 0.5 * self.training


class CallableObject(Block):
    def forward(self, x: Tensor) -> Tensor:
        return DROPPER(self, self.linear(x))


class FromTable(Block):
    def forward(self, x: Tensor) -> Tensor:
        return TABLE["drop"](self, self.linear(x))


class Partial(Block):
    def forward(self, x: Tensor) -> Tensor:
        return halved(self, self.linear(x))


class Default(Block):
    def forward(self, x: Tensor, act: Callable[..., Tensor] = drop) -> Tensor:
        return act(self, self.linear(x))


class Static(Block):
    @staticmethod
    def drop(module: nn.Module, x: Tensor) -> Tensor:
        return drop(module, x)


class Attribute(Block):
    def __init__(self, act: Callable[..., Tensor] = drop) -> None:
        super().__init__()
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self, self.linear(x))


class Mixin:
    def dropped(self, x: Tensor) -> Tensor:
        return drop(self, x)


class MixedInLast(nn.Linear, Mixin):
    def forward(self, x: Tensor) -> Tensor:
        return self.dropped(super().forward(x))


class WeightDrop(nn.LSTM):
    """Its `dropout` is 0, and says nothing of what it adds."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(drop(self, x))


class OwnLayer(nn.TransformerEncoderLayer):
    def forward(self, src: Tensor, **kwargs: Any) -> Tensor:
        return drop(self, super().forward(src, **kwargs))


class Partialled(Block):
    forward = functools.partialmethod(drop)


class Dispatched(Block):
    @functools.singledispatchmethod
    def act(self, x: Any) -> Any:
        return x

    @act.register
    def _(self, x: Tensor) -> Tensor:
        return drop(self, x)


class NestedModules(Block):
    def forward(self, x: Tensor) -> Tensor:
        return outer.inner.drop(self, self.linear(x))


class Imported(Block):
    def forward(self, x: Tensor) -> Tensor:
        from outer import drop as act

        return act(self, self.linear(x))


class Compiled(Block):
    forward = torch.compile(drop)


def with_own_forward() -> nn.Module:
    block = Block()
    block.forward = types.MethodType(drop, block)
    return block


def with_hook() -> nn.Module:
    block = Block()
    block.register_forward_hook(lambda module, args, output: drop(module, output))
    return block


def scripted() -> nn.Module:
    return torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.Dropout(0.5)))


HEEDING: list[Callable[[], nn.Module]] = [
    *(Autocast, Wrapped, Unnamed, Inner, Helper, HelperOfModule, ByName, Property, Cached),
    *(CallableObject, FromTable, Partial, Default, Static, Attribute),
    *(Partialled, Dispatched, NestedModules, Compiled),
    *(with_own_forward, with_hook, scripted),
    lambda: MixedInLast(6, 6),
    lambda: WeightDrop(6, 6),
    lambda: OwnLayer(6, 2, 12, dropout=0.0),
    lambda: Attribute(Dropper()),
    lambda: nn.utils.spectral_norm(nn.Linear(6, 6)),
    lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(6, 6)),
]


def heed(model: nn.Module) -> ModeUse:
    return max(map(mode_use, model.modules()))


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("make", HEEDING)
def test_a_mode_that_is_read_indirectly_is_noticed(make: Callable[[], nn.Module]) -> None:
    assert heed(make()) is ModeUse.YES


class Switching(Block):
    """Keeps the mode in a flag of its own."""

    def train(self, mode: bool = True) -> nn.Module:
        self.merged = not mode
        return super().train(mode)


class SwitchedOnce(Block):
    """The same, for one module alone."""

    def __init__(self) -> None:
        super().__init__()
        self.train = functools.partial(nn.Module.train, self)


class FromC(Block):
    def forward(self, x: Tensor) -> Tensor:
        return deserialize(self, self.linear(x))


class ByGetter(Block):
    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.linear(x), 0.5, mode(self))


class Around(nn.Module):
    """Has a part that it does not run, so that only its mode is looked at."""

    def __init__(self, part: nn.Module) -> None:
        super().__init__()
        self.body, self.part = nn.Sequential(nn.Linear(6, 6), nn.ReLU(), nn.Linear(6, 3)), part

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x)


def calibrated(part: nn.Module) -> nervecode.layers.WrappedModel:
    torch.manual_seed(0)
    model = Around(part).eval()
    wrapped = nervecode.wrap(model, "all_linear").fit([(X, torch.arange(150) % 3)])
    return wrapped.calibrate([X + 0.1])


X = torch.randn(150, 6, generator=torch.Generator().manual_seed(0))
ONCE = "whether {} does the same in both cannot be told"


def test_what_a_function_imports_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "outer", outer)
    assert heed(Imported()) is ModeUse.YES


@pytest.mark.parametrize("kind", [Switching, SwitchedOnce, ByGetter, FromC])
def test_what_cannot_be_told_is_said_in_training_mode(kind: type[nn.Module]) -> None:
    assert heed(kind()) is ModeUse.UNKNOWN
    wrapped = calibrated(kind())
    assert wrapped.score(X)[1].valid.all()
    wrapped.train()
    with pytest.warns(UserWarning, match=ONCE.format(kind.__name__)):
        surprise = wrapped.score(X)[1]
    assert not surprise.valid.any() and surprise.p_value.isnan().all() and surprise.flag(0.5).all()
    wrapped.model.part.eval()
    assert wrapped.score(X)[1].valid.all()


def test_a_mode_that_is_read_is_said_before_what_cannot_be_told() -> None:
    wrapped = calibrated(nn.Sequential(Switching(), Helper()))
    wrapped.train()
    with pytest.warns(UserWarning, match="calibrated in evaluation mode; call eval"):
        assert not wrapped.score(X)[1].valid.any()


def test_more_code_than_is_read_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nervecode.layers.callables.MOST", 2)

    class Large(Block):
        def forward(self, x: Tensor) -> Tensor:
            return plain(plain(x))

    assert heed(Large()) is ModeUse.UNKNOWN


def test_an_attribute_that_fails_when_it_is_looked_at_is_unknown() -> None:
    class Failing:
        def __getattr__(self, name: str) -> None:
            raise ZeroDivisionError

        __call__ = deserialize

    assert heed(Attribute(Failing())) is ModeUse.UNKNOWN


class Lazy(dict[str, Any]):
    """Loads what it names, as tables of large packages do."""

    def values(self) -> Any:
        raise AssertionError

    __iter__ = __getitem__ = values


LAZY = Lazy(drop=drop)


def test_tables_are_not_made_to_load_what_they_name() -> None:
    class FromLazy(Block):
        def forward(self, x: Tensor) -> Tensor:
            return LAZY["drop"](self, self.linear(x))

    assert heed(FromLazy()) is ModeUse.YES


# What does not heed the mode is scored in any


class Plain(Block):
    """Calls of every kind that do not ask."""

    SCALE = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.act, self.table, self.device = F.relu, {"relu": torch.relu}, torch.device("cpu")

    @property
    def half(self) -> float:
        return 0.5 * self.SCALE

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        h = self.table["relu"](self.act(plain(self.linear(x)))) * self.half
        return torch.cat([h.sum(1, keepdim=True).expand_as(part) for part in (h, h)]).mean(0)

    def extra_repr(self) -> str:
        return f"half={self.half}"


def frozen_script() -> nn.Module:
    return torch.jit.freeze(torch.jit.script(nn.Sequential(nn.Linear(6, 6), nn.Dropout()).eval()))


INDIFFERENT: list[Callable[[], nn.Module]] = [
    Plain,
    frozen_script,
    lambda: torch.jit.trace(nn.Sequential(nn.Linear(6, 6), nn.Dropout()).eval(), X),
    lambda: torch.jit.script(nn.Linear(6, 6)),
    lambda: torch.fx.symbolic_trace(nn.Sequential(nn.Linear(6, 6), nn.ReLU())),
    lambda: torch.compile(nn.Linear(6, 6)),
    lambda: nn.utils.parametrizations.weight_norm(nn.Linear(6, 6)),
    lambda: nn.utils.weight_norm(nn.Linear(6, 6)),
    lambda: nn.TransformerEncoderLayer(6, 2, 12, dropout=0.0),
    lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.GroupNorm(1, 2), nn.GELU(), nn.LayerNorm(3)),
    lambda: nn.LSTM(6, 6),
    lambda: nervecode.wrap(nn.Sequential(nn.Linear(6, 6), nn.ReLU()), "all_linear").model,
]


@pytest.mark.filterwarnings("ignore:.*deprecated")
@pytest.mark.parametrize("make", INDIFFERENT)
def test_what_does_not_ask_is_indifferent(make: Callable[[], nn.Module]) -> None:
    assert heed(make()) is ModeUse.NO
