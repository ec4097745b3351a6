"""Taps: forward hooks that show chosen outputs to the call in progress, and to nothing else.

A hook that stored what it saw on the model would mix threads and outlive its call. A tap only
looks up who is watching: in eager mode through a context variable, so that every thread and every
nested wrapper sees its own call; while torch.compile traces, through a plain attribute, because
a context variable cannot be traced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.errors import InputError

Visit = Callable[[str, tuple[Any, ...], Any], None]
"""Called with a tap's name, and what its module was given and returned."""

_NOBODY: Mapping[int, Visit] = MappingProxyType({})
_WATCHING: ContextVar[Mapping[int, Visit]] = ContextVar("nervecode_watching", default=_NOBODY)


class TapSet:
    """The taps of one wrapper on the modules of one model. Copies with the model it sits on."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        self.traced_visit: Visit | None = None
        self.names: set[str] = set()
        self.add(modules)

    def add(self, modules: Mapping[str, nn.Module]) -> None:
        """Tap further modules; names that are tapped already are left alone."""
        for name, module in modules.items():
            if name in self.names:
                continue
            self.names.add(name)
            if isinstance(module, torch.jit.ScriptModule):
                warnings.warn(f"layer {name!r} is not coded: it is scripted", stacklevel=2)
                continue
            module.register_forward_hook(_Tap(name, self))

    def remove(self, model: nn.Module) -> None:
        """Take every tap of this set off a model."""
        for module in model.modules():
            hooks = module._forward_hooks
            for key in [k for k, h in hooks.items() if isinstance(h, _Tap) and h.owner is self]:
                del hooks[key]

    @contextmanager
    def watched(self, visit: Visit) -> Iterator[None]:
        """Within the block, each tapped output of this thread's calls goes to `visit`."""
        token = _WATCHING.set({**_WATCHING.get(), id(self): visit})
        try:
            yield
        finally:
            _WATCHING.reset(token)

    def visit(self) -> Visit | None:
        """Who is watching now."""
        if torch.compiler.is_compiling():
            return self.traced_visit
        return _WATCHING.get().get(id(self))


class _Tap:
    """One forward hook: hands the module's output on, and changes nothing."""

    def __init__(self, name: str, owner: TapSet) -> None:
        self.name = name
        self.owner = owner

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        visit = self.owner.visit()
        if visit is not None:
            visit(self.name, args, output)


def activation_of(output: Any, pick: str | int | None = None) -> Tensor | None:
    """The activation in a module's output: itself, the part that `pick` names, or the first tensor.

    Raises:
        InputError: a part that the output does not have.
    """
    if pick is not None:
        try:
            output = output[pick]
        except (KeyError, IndexError, TypeError):
            parts = list(output) if isinstance(output, Mapping) else type(output).__name__
            raise InputError(f"output: found {parts}, which has no part {pick!r}") from None
    if isinstance(output, Tensor):
        return output
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        return next((one for one in output if isinstance(one, Tensor)), None)
    return None
