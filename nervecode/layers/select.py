"""Selection: which modules of a model are watched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Any

from torch import nn

from nervecode.errors import InputError, did_you_mean
from nervecode.layers.coder import Coder
from nervecode.layers.taps import fused_parts

Selector = str | Iterable[str] | Mapping[str, str | int] | Callable[[str, nn.Module], bool]

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
CONTAINERS = (nn.Sequential, nn.ModuleList)
ACTIVATIONS = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.SELU, nn.CELU, nn.GELU, nn.SiLU,
    nn.Mish, nn.Hardswish, nn.Tanh, nn.Sigmoid, nn.Softplus,
)  # fmt: skip


def select_layers(model: nn.Module, layers: Selector) -> dict[str, nn.Module]:
    """The modules that a selector names, by their dotted names, in the model's order.

    Args:
        model: any module.
        layers: a shortcut (`all_blocks`, `last_two_blocks`, `last_block`, `all_linear`,
            `first_linear`, `all_conv`), a name, a glob (`layer*.1`), several of these, a mapping of
            these to the part of the output that is watched (an index or a key), or a predicate
            on (name, module).

    Raises:
        InputError: no module, or a selector of another kind or that matches nothing; the nearest
            name is shown.
    """
    need_module(model)
    modules = watchable(model)
    if callable(layers) and not isinstance(layers, (nn.Module, type)):
        chosen = {name for name, module in modules.items() if layers(name, module)}
        if not chosen:
            raise InputError("layers: the predicate matches no module of the model")
    else:
        several = isinstance(layers, Iterable) and not isinstance(layers, (str, nn.Module, type))
        wanted: list[Any] = list(layers) if several else [layers]  # type: ignore[arg-type]
        if odd := [selector for selector in wanted if not isinstance(selector, str)]:
            raise InputError(
                f"layers: found {_what(odd[0])}, allowed: the name of a module, a glob, one of "
                f"{', '.join(SHORTCUTS)}, several of these, or a predicate on (name, module)"
            )
        if not wanted:
            raise InputError("layers: found an empty list, allowed: at least one selector")
        chosen = {name for selector in wanted for name in _matches(model, modules, selector)}
    return {name: module for name, module in modules.items() if name in chosen}


def need_module(model: object) -> None:
    """Refuse what is no module.

    Raises:
        InputError: says what it is.
    """
    if not isinstance(model, nn.Module):
        raise InputError(f"model: found {_what(model)}, allowed: a torch.nn.Module")


def _what(value: object) -> str:
    """A class by its name, a plain value as it is, anything else by its kind."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    return repr(value) if isinstance(value, (int, float, str)) else type(value).__name__


def watchable(model: nn.Module) -> dict[str, nn.Module]:
    """Modules by name, without the parts of coders that a wrapper or a coding layer carries."""
    coders = {part for m in model.modules() if isinstance(m, Coder) for part in m.modules()}
    return {name: m for name, m in model.named_modules() if name and m not in coders}


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    """The linear layers by name, without those that a hook would keep from being fused."""
    fused = fused_parts(model)
    return {
        name: module
        for name, module in watchable(model).items()
        if isinstance(module, nn.Linear) and module not in fused
    }


def _matches(model: nn.Module, modules: dict[str, nn.Module], selector: str) -> list[str]:
    if selector in SHORTCUTS:
        matches = [name for name in SHORTCUTS[selector](model) if name in modules]
    else:
        first = {module: name for name, module in modules.items()}
        names = dict(model.named_modules(remove_duplicate=False))  # a shared part has several
        selector = first.get(names[selector], selector) if selector in names else selector
        matches = (
            [selector]
            if selector in modules
            else [name for name in modules if fnmatchcase(name, selector)]
        )
    if not matches:
        nothing = f"layers: {selector!r} matches no module of {type(model).__name__}"
        if not modules:
            raise InputError(f"{nothing}, which has no parts; wrap nn.Sequential(model) instead")
        allowed = modules if selector in SHORTCUTS else [*SHORTCUTS, *modules]
        raise InputError(f"{nothing}; {did_you_mean(selector, allowed)}")
    return matches


def _of_type(types: tuple[type[nn.Module], ...]) -> Callable[[nn.Module], list[str]]:
    return lambda model: [n for n, m in model.named_modules() if n and isinstance(m, types)]


def blocks(model: nn.Module) -> list[str]:
    """The blocks of a model, in order.

    A block is an outermost module inside a Sequential or ModuleList that has parts of its own
    (a residual block, a Transformer layer). A model without blocks gives its activation modules,
    and one without those its linear and convolution layers.
    """
    names = list(_blocks_below(model, "", inside=isinstance(model, CONTAINERS)))
    if names:
        return names
    return _of_type(ACTIVATIONS)(model) or _of_type((nn.Linear, *CONVOLUTIONS))(model)


def _blocks_below(module: nn.Module, prefix: str, *, inside: bool) -> Iterable[str]:
    for name, child in module.named_children():
        path = f"{prefix}{name}"
        composite = next(child.children(), None) is not None
        if inside and composite and type(child) not in CONTAINERS and _has_parameters(child):
            yield path
        elif composite:
            yield from _blocks_below(child, f"{path}.", inside=isinstance(child, CONTAINERS))


def _has_parameters(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


SHORTCUTS: dict[str, Callable[[nn.Module], list[str]]] = {
    "all_blocks": blocks,
    "last_two_blocks": lambda model: blocks(model)[-2:],
    "last_block": lambda model: blocks(model)[-1:],
    "all_linear": _of_type((nn.Linear,)),
    "first_linear": lambda model: _of_type((nn.Linear,))(model)[:1],
    "all_conv": _of_type(CONVOLUTIONS),
}
