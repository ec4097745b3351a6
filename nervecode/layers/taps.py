"""Taps: forward hooks that show chosen outputs to the call in progress, and to nothing else.

A hook that stored what it saw on the model would mix threads and outlive its call. A tap only
looks up who is watching: in eager mode through a context variable, so that every thread and every
nested wrapper sees its own call; while torch.compile traces, through a plain attribute, because
a context variable cannot be traced.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from nervecode.errors import InputError


class Visitor(Protocol):
    """Whoever watches a call of a model."""

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called with these arguments."""

    def visit(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """A tapped module was given `inputs` and returned `output`."""


ACTIVATIONS = (Tensor, PackedSequence)
_NOBODY: Mapping[int, Visitor] = MappingProxyType({})
_WATCHING: ContextVar[Mapping[int, Visitor]] = ContextVar("nervecode_watching", default=_NOBODY)


class TapSet:
    """The taps of one wrapper on a model and its modules; gone from there when it is gone."""

    def __init__(self, model: nn.Module) -> None:
        self._channel = _Channel()
        self._handles: dict[str, RemovableHandle | None] = {}
        if not isinstance(model, torch.jit.ScriptModule):
            entry = _Entry(self._channel)
            self._handles[""] = model.register_forward_pre_hook(entry, with_kwargs=True)

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
    def watched(self, visitor: Visitor) -> Iterator[None]:
        """Within the block, `visitor` sees this thread's calls, and each tapped output."""
        if torch.compiler.is_compiling():
            self._channel.traced = visitor
            yield
            self._channel.traced = None
            return
        token = _WATCHING.set({**_WATCHING.get(), id(self._channel): visitor})
        try:
            yield
        finally:
            _WATCHING.reset(token)

    def __del__(self) -> None:
        self.remove()


class _Channel:
    """What the taps of one set know of their set: not the set itself, so that it can go."""

    traced: Visitor | None = None

    def visitor(self) -> Visitor | None:
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
        visitor = self.channel.visitor()
        if visitor is not None:
            visitor.visit(self.name, args, output)


class _Entry:
    """A pre-hook on the model itself: tells what it is called with."""

    def __init__(self, channel: _Channel) -> None:
        self.channel = channel

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        visitor = self.channel.visitor()
        if visitor is not None:
            visitor.begin(args, kwargs)


def activation_of(output: Any, pick: str | int | None = None) -> Tensor | PackedSequence | None:
    """The activation in a module's output: itself, the part that `pick` names, or the first tensor.

    A `PackedSequence` counts as a tensor.

    Raises:
        InputError: a part that the output does not have.
    """
    if pick is not None:
        try:
            output = output[pick]
        except (KeyError, IndexError, TypeError):
            parts = list(output) if isinstance(output, Mapping) else type(output).__name__
            raise InputError(f"output: found {parts}, which has no part {pick!r}") from None
    if isinstance(output, ACTIVATIONS):
        return output
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        return next((part for part in output if isinstance(part, ACTIVATIONS)), None)
    return None
