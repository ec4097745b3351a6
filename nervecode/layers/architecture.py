"""Architecture: what a model is made of beside its weights, as a file of its codes tells it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import signature
from types import BuiltinFunctionType, FunctionType
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.modules.loss import _Loss

from nervecode.layers.callables import is_known
from nervecode.layers.names import shell_part

# Leaves that do nothing in evaluation; the last three without parts.
IDLE = (
    r"Identity|\w*(Dropout|DropPath|DropBlock|StochasticDepth)(\dd)?|Sequential|Module(List|Dict)"
)
UNHEEDED = frozenset(
    {
        *("training", "forward", "name", "device", "dtype", "inplace", "qconfig"),
        *("momentum", "sparse", "scale_grad_by_freq"),  # of training
        *("enable_nested_tensor", "use_nested_tensor", "mask_check"),  # of speed
    }
)  # options that change no value in evaluation, as those do not that tell of dropping
# attn_drop, drop_path_rate, layerdrop, hidden_dropout_prob; not drop_first
DROPS = r"\w*?drop(?:out|path|block|connect)?(?:_(?:out|path|block|connect|p|probs?|rates?|ratio))*"
MADE_BY_TORCH = ("Parametrized", "FSDP")  # how classes begin that PyTorch makes of others
STATED, CLASS = "extra_repr", "class"
MAKERS = "parametrizations"
UNCOLLAPSED = "normalized_shape"  # of which (3, 3) is not 3
LONGEST = 200  # characters of a text that is kept as it is
WIDEST = 16  # elements of an option that is kept

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_NAMES = "|".join([*sorted(UNHEEDED), DROPS])
_DROPS, _IDLE = re.compile(DROPS), re.compile(IDLE)
_UNHEEDED = re.compile(rf"\b(?:{_NAMES})=[^,(]*(?:\([^)]*\))?(?:,\s*)?")


class Part(NamedTuple):
    """A module as it is compared.

    Attributes:
        kind: the name of its class; empty where it has parts, which say more than its name does.
        options: the plain attributes that its class declares, as by arguments of its constructor;
            of no class of PyTorch's, also what `extra_repr` says, and with parts the class.
    """

    kind: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(f'{key}={self.options[key]!r}' for key in self.options)})"


class Mismatch(NamedTuple):
    """Where a model differs from the one that codes were made for.

    Attributes:
        text: in words.
        sure: whether the model computes something else for certain, as far as modules tell.
    """

    text: str
    sure: bool


class Architecture:
    """The modules of a model by their names, but for those that do nothing in evaluation.

    Wrappers, such as that of `torch.compile`, count for nothing, and neither do dtype, device,
    mode, parametrisations that one of two models lacks, and what changes training or speed alone.
    What the forward of a class does is not looked at.

    Args:
        parts: by name.
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = parts

    @classmethod
    def of(cls, model: nn.Module) -> Architecture:
        """That of a model as it is."""
        found = ((name, _part(module)) for name, module in _walk(model, "", set()))
        return cls({name: part for name, part in found if part is not None})

    @classmethod
    def from_plain(cls, value: list[Any]) -> Architecture:
        """The reverse of `plain`."""
        return cls({n: Part(kind, options) for kind, options, names in value for n in names})

    def plain(self) -> list[Any]:
        """As JSON values: of modules that are alike, kind, options, and all names."""
        alike: dict[str, list[Any]] = {}
        for name, (kind, options) in self.parts.items():
            key = json.dumps([kind, options], sort_keys=True)
            alike.setdefault(key, [kind, options, []])[2].append(name)
        return list(alike.values())

    def mismatches(self, model: nn.Module) -> Iterator[Mismatch]:
        """How a model differs, in its order; what only one of both tells of a module is no matter.

        So releases of PyTorch may have other options.
        """
        missing = dict(self.parts)
        for name, module in _walk(model, "", set()):
            made = missing.pop(name, None) or Part("", {})
            found = _part(module) or Part("", {})
            where = f"module {name!r}" if name else "the model"
            if _is_removable(name) and not (found.kind and made.kind):
                continue
            if found.kind != made.kind:
                what = found if found.kind else _class_of(module).__name__
                text = f"{where}: found {what}, made for {made if made.kind else 'none'}"
                # A loss or a metric of one's own, which the answer does not go through, may lack.
                yield Mismatch(text, bool(found.kind and made.kind) or _is_torchs(found, made))
                continue
            for key, value in found.options.items():
                if value != made.options.get(key, value):
                    text = f"{where}: found {key}={value!r}, made for {made.options[key]!r}"
                    yield Mismatch(text, _is_of_torch(_class_of(module)))
        for name, made in missing.items():
            if made.kind and not _is_removable(name):
                text = f"module {name!r}: found none, made for {made}"
                yield Mismatch(text, _is_torchs(made))


def _is_torchs(*parts: Part) -> bool:
    """Whether one of them is of a class that PyTorch has by its name."""
    return any(hasattr(nn, part.kind) for part in parts if part.kind)


def _is_removable(name: str) -> bool:
    """Whether a module makes a weight of others, which may be kept as it is made instead."""
    return MAKERS in name.split(".")


def _walk(module: nn.Module, name: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """A module and its parts by their names, without wrappers; leaves by all their names."""
    if shell := shell_part(module):
        yield from _walk(getattr(module, shell), name, seen)
        return
    parts = _parts(module)
    if parts and module in seen:
        return
    seen.add(module)
    yield name, module
    made = {own: part for own, part in module._modules.items() if own == MAKERS and part}
    for own, part in {**parts, **made}.items():
        yield from _walk(part, f"{name}.{own}" if name else own, seen)


def _parts(module: nn.Module) -> dict[str, nn.Module]:
    """The parts of a module that are compared."""
    parts = module._modules.items()
    return {name: part for name, part in parts if part is not None and not _hides(module, name)}


def _hides(module: nn.Module, name: str) -> bool:
    """Whether a part is one in which PyTorch keeps weights or makes them, or a coder."""
    if name == MAKERS:
        return True
    known = is_known(_class_of(module)) and not isinstance(module, torch.jit.ScriptModule)
    return known and (name.startswith("_") or name in ("coder", "coders"))


def _part(module: nn.Module) -> Part | None:
    """What is compared of a module; None where that is nothing."""
    kind = "" if _parts(module) else _kind(module)
    if _IDLE.fullmatch(kind) or isinstance(module, _Loss):
        return None
    options = _options(module)
    return Part(kind, options) if kind or options else None


def _class_of(module: nn.Module) -> type:
    """The class of a module, below those that PyTorch makes of it."""
    for kind in type(module).__mro__:
        if not (_is_of_torch(kind) and kind.__name__.startswith(MADE_BY_TORCH)):
            return getattr(kind, "cls_to_become", None) or kind  # as of lazy ones
    raise AssertionError(f"{type(module)} is no module")


def _kind(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    kind = _class_of(module)
    if issubclass(kind, _BatchNorm) and _is_of_torch(kind):  # of any dimension, and of ranks
        return "BatchNorm"
    return kind.__name__


def _options(module: nn.Module) -> dict[str, Any]:
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return {}
    kind = _class_of(module)
    known = _is_of_torch(kind)
    options: dict[str, Any] = {}
    if not known and (stated := _stated(module)):
        options[STATED] = stated
    if not known and _parts(module) and not isinstance(module, torch.fx.GraphModule):
        options[CLASS] = kind.__name__
    for name in [name for name in vars(module) if name in _declared(kind)]:
        value = vars(module)[name]
        several = name == UNCOLLAPSED and len(value) > 1
        plain = list(value) if several else _plain(value)
        if plain is not ...:
            options[name] = plain
    return options


def _is_of_torch(kind: type) -> bool:
    return kind.__module__.partition(".")[0] == "torch"


def _stated(module: nn.Module) -> str:
    """What a module says of itself, without addresses and what changes no value."""
    try:
        text = str(module.extra_repr())
    except Exception:  # a text for people comes between nobody and a file
        return ""
    text = _UNHEEDED.sub("", _ADDRESS.sub("0x", text)).strip(", \n")
    return text if len(text) <= LONGEST else hashlib.sha256(text.encode()).hexdigest()


@cache
def _declared(kind: type) -> frozenset[str]:
    """The names of options that a class declares, and that may change a value in evaluation.

    What a profiler or an optimiser hangs on a module is none of them.
    """
    names: set[str] = set()
    for base in kind.__mro__:
        if base is kind or (_is_of_torch(kind) and base is not nn.Module):
            names.update(_arguments(base))
        if _is_of_torch(base) and base is not nn.Module:
            names.update(getattr(base, "__constants__", ()), vars(base).get("__annotations__", ()))
    return frozenset(
        name
        for name in names
        if name not in UNHEEDED and not name.startswith("_") and not _DROPS.fullmatch(name)
    )


def _arguments(kind: type) -> frozenset[str]:
    """The names of what the constructor of a class takes."""
    try:
        return frozenset(signature(kind).parameters)
    except (TypeError, ValueError):
        return frozenset()


def _plain(value: Any) -> Any:
    """An option as a JSON value, a function by its name; `...` for what is none of this."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return float(value) if abs(value) < float("inf") else str(value)
    if isinstance(value, str):
        return str(value) if len(value) <= LONGEST else ...
    if isinstance(value, (FunctionType, BuiltinFunctionType)):
        return value.__name__
    if not isinstance(value, (tuple, list)) or not 0 < len(value) <= WIDEST:
        return ...
    plain = [_plain(each) for each in value]
    if ... in plain:
        return ...
    same = all(each == plain[0] for each in plain)
    return plain[0] if same else plain  # a size of 3 is one of (3, 3)
