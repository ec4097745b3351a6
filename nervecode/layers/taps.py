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
from torch.utils.hooks import RemovableHandle

from nervecode.errors import InputError

Visit = Callable[[str, tuple[Any, ...], Any], None]
"""Called with a tap's name, and what its module was given and returned."""

_NOBODY: Mapping[int, Visit] = MappingProxyType({})
_WATCHING: ContextVar[Mapping[int, Visit]] = ContextVar("nervecode_watching", default=_NOBODY)


class TapSet:
    """The taps of one wrapper on the modules of one model; gone from there when it is gone."""

    def __init__(self) -> None:
        self._channel = _Channel()
        self._handles: dict[str, RemovableHandle | None] = {}

    def add(self, modules: Mapping[str, nn.Module]) -> None:
        """Tap further modules; names that are tapped already are left alone."""
        for name, module in modules.items():
            if name in self._handles:
                continue
            self._handles[name] = None
            if isinstance(module, torch.jit.ScriptModule):
                warnings.warn(f"layer {name!r} is not coded: it is scripted", stacklevel=2)
                continue
            self._handles[name] = module.register_forward_hook(_Tap(name, self._channel))

    def remove(self) -> None:
        """Take every tap of this set off its module."""
        for handle in self._handles.values():
            if handle is not None:
                handle.remove()

    @contextmanager
    def watched(self, visit: Visit) -> Iterator[None]:
        """Within the block, each tapped output of this thread's calls goes to `visit`."""
        if torch.compiler.is_compiling():
            self._channel.traced = visit
            yield
            self._channel.traced = None
            return
        token = _WATCHING.set({**_WATCHING.get(), id(self._channel): visit})
        try:
            yield
        finally:
            _WATCHING.reset(token)

    def __del__(self) -> None:
        self.remove()


class _Channel:
    """What the taps of one set know of their set: not the set itself, so that it can go."""

    traced: Visit | None = None

    def visit(self) -> Visit | None:
        """Who is watching now."""
        if torch.compiler.is_compiling():
            return self.traced
        return _WATCHING.get().get(id(self))


class _Tap:
    """One forward hook: hands the module's output on, and changes nothing."""

    def __init__(self, name: str, channel: _Channel) -> None:
        self.name = name
        self.channel = channel

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        visit = self.channel.visit()
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
