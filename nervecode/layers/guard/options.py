"""Options of modules that change what they compute, as far as a module tells them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from inspect import signature
from types import BuiltinFunctionType, FunctionType
from typing import Any

import torch
from torch import nn
from torch.nn.modules.lazy import LazyModuleMixin

IGNORED = frozenset(
    {
        *("training", "forward", "device", "dtype", "inplace", "qconfig"),
        *("momentum", "sparse", "scale_grad_by_freq"),  # of training
        *("enable_nested_tensor", "use_nested_tensor", "mask_check"),  # of speed
    }
)  # options that change no value in evaluation, as those do not that tell of dropping
# attn_drop, drop_path_rate, layerdrop, hidden_dropout_prob; not drop_first
DROPS = r"\w*?drop(?:out|path|block|connect)?(?:_(?:out|path|block|connect|p|probs?|rates?|ratio))*"
MADE_BY_TORCH = ("Parametrized", "FSDP")  # how classes begin that PyTorch makes of others
STATED, CLASS = "extra_repr", "class"
ADAPTERS_OFF = "_disable_adapters"  # an attribute of the layers of PEFT
UNCOLLAPSED = "normalized_shape"  # of which (3, 3) is not 3
MOST_VALUES = 1 << 16  # of a buffer that is hashed
LONGEST = 200  # characters of a text that is kept as it is
WIDEST = 16  # elements of an option that is kept

_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
_NAMES = "|".join([*sorted(IGNORED), DROPS])
_DROPS = re.compile(DROPS)
_UNHEEDED = re.compile(rf"\b(?:{_NAMES})=[^,(]*(?:\([^)]*\))?(?:,\s*)?")


def class_of(module: nn.Module) -> type:
    """The class of a module, below those that PyTorch makes of it."""
    for kind in type(module).__mro__:
        if not (is_of_torch(kind) and kind.__name__.startswith(MADE_BY_TORCH)):
            return getattr(kind, "cls_to_become", None) or kind  # as of lazy ones
    raise AssertionError(f"{type(module)} is no module")


def options_of(module: nn.Module, *, has_parts: bool) -> dict[str, Any]:
    """The options of a module as JSON values; see `Part`."""
    if isinstance(module, torch.jit.ScriptModule):
        return {}
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        return {}
    kind = class_of(module)
    known = is_of_torch(kind)
    options: dict[str, Any] = {}
    if not known and (stated := _stated(module)):
        options[STATED] = stated
    if not known and has_parts and not isinstance(module, torch.fx.GraphModule):
        options[CLASS] = kind.__name__
    for name in [name for name in vars(module) if name in declared(kind)]:
        value = vars(module)[name]
        several = name == UNCOLLAPSED and len(value) > 1
        plain = list(value) if several else _plain(value)
        if plain is not ...:
            options[name] = plain
    if ADAPTERS_OFF in vars(module):
        options["adapters"] = _adapters(vars(module))
    return options | dict(_constants(module))


def _adapters(own: Mapping[str, Any]) -> str:
    """Which adapters of PEFT are on, and how they are scaled, from a layer's attributes."""
    if own[ADAPTERS_OFF]:
        return "off"
    active, scaling = own.get("_active_adapter", ()), own.get("scaling", {})
    names = [active] if isinstance(active, str) else list(active)
    return ", ".join(f"{name} x {scaling.get(name, 1)}" for name in names)


def _constants(module: nn.Module) -> Iterator[tuple[str, str]]:
    """The buffers that no state dict has, such as frequencies of positions, by their hashes."""
    for name in module._non_persistent_buffers_set:
        values = module._buffers.get(name)
        if values is None or values.is_meta or not 0 < values.numel() <= MOST_VALUES:
            continue
        if values.numel() > 1 or values.is_floating_point():  # one integer is a counter
            plain = values.detach().cpu().contiguous()
            digest = hashlib.sha256(str(plain.flatten().tolist()).encode()).hexdigest()
            # Of another size or dtype, as a cache is that has grown, it is another key.
            kind = str(plain.dtype).removeprefix("torch.")
            yield f"buffer {name} {tuple(plain.shape)} of {kind}", digest[:16]


def is_of_torch(kind: type) -> bool:
    """Whether a class is one of PyTorch's."""
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
def declared(kind: type) -> frozenset[str]:
    """The names of options that a class declares, and that may change a value in evaluation.

    What a profiler or an optimiser hangs on a module is none of them.
    """
    names: set[str] = set()
    for base in kind.__mro__:
        if base is kind or (is_of_torch(kind) and base is not nn.Module):
            names.update(_arguments(base))
        if is_of_torch(base) and base is not nn.Module:
            names.update(getattr(base, "__constants__", ()), vars(base).get("__annotations__", ()))
    return frozenset(n for n in names if not n.startswith("_") and not is_ignored(n))


def is_ignored(name: str) -> bool:
    """Whether an option of this name changes no value in evaluation."""
    return name in IGNORED or _DROPS.fullmatch(name) is not None


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
    if isinstance(value, partial):
        given = _ADDRESS.sub("0x", f"{value.args}, {value.keywords}")
        return [getattr(value.func, "__name__", ""), given]
    if not isinstance(value, (tuple, list)) or not 0 < len(value) <= WIDEST:
        return ...
    plain = [_plain(each) for each in value]
    if ... in plain:
        return ...
    same = all(each == plain[0] for each in plain)
    return plain[0] if same else plain  # a size of 3 is one of (3, 3)
