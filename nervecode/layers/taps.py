"""Taps show chosen outputs to the call in progress, and to nothing else.

A tap is a forward hook. One that stored what it saw on the model would mix threads and outlive its
call; a tap only looks up who is watching: in eager mode through a context variable, so that every
thread and every nested wrapper sees its own call; while torch.compile traces, through a plain
attribute, because a context variable cannot be traced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from types import MappingProxyType
from typing import Any, Protocol
from weakref import ref

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from nervecode.core.call import is_recomputed
from nervecode.errors import InputError, NotReadyError
from nervecode.layers.patches import (
    CompiledCallPatch,
    EagerSwitch,
    ForwardPatch,
    compiled_original,
    uncompiled_forward,
)


class Visitor(Protocol):
    """Whoever watches a call of a model."""

    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model, of no name, or an entered part of it is called with these arguments."""

    def end(self) -> None:
        """A call of the model that began has ended, or failed."""

    def visit(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """A tapped module was given `inputs` and returned `output`."""


ACTIVATIONS = (Tensor, PackedSequence)
_NOBODY: Mapping[int, Visitor] = MappingProxyType({})
_WATCHING: ContextVar[Mapping[int, Visitor]] = ContextVar("nervecode_watching", default=_NOBODY)


class TapSet:
    """The taps of one wrapper on a model and its modules; gone from there when it is gone.

    Args:
        model: the model.
        unwatched: called when the model or a tapped module runs while nobody watches.
    """

    def __init__(self, model: nn.Module, unwatched: Callable[[], None]) -> None:
        self._channel = _Channel(unwatched)
        self._channel.owner = ref(self)
        _remove_orphans(model)
        self._model = model
        self._fused = fused_parts(model)
        self._handles: dict[str, RemovableHandle | ForwardPatch | None] = {}
        self._modules: dict[str, nn.Module] = {}  # those that are tapped, by name
        self._entries: list[RemovableHandle | ForwardPatch] = []
        self._parts: dict[str, nn.Module] = {}  # those that are entered, by name
        self._part_entries: list[RemovableHandle | ForwardPatch] = []
        self._patches: list[ForwardPatch | CompiledCallPatch] = []
        self._searched = False  # for what was compiled
        if not isinstance(model, torch.jit.ScriptModule):
            self._entries = [self._enter("", model), self._leave(model)]

    def uncompiles(self) -> bool:
        """Whether something that was compiled, also since, runs as it is while somebody watches."""
        forward, called = vars(self._model).get("forward"), self._model._compiled_call_impl
        anew = called is not None and not isinstance(called, CompiledCallPatch)
        if anew or not self._searched or compiled_original(forward) is not None:
            self.uncompile()
        return bool(self._patches)

    def uncompile(self) -> None:
        """Let what `torch.compile` made run as it is while somebody watches a part of it.

        As `model.forward = torch.compile(model.forward)`, or a part of the model: within a graph no
        tap is heard. A part that is watched from outside alone stays compiled.
        """
        self._searched = True
        done = {patch.module for patch in self._patches if patch.is_in_place()}
        for module in [module for module in self._model.modules() if module not in done]:
            forward = vars(module).get("forward")
            if uncompiled_forward(forward) is not forward and self._hears_within(module):
                self._patches.append(ForwardPatch(module, switch=self._switch()))
            if module._compiled_call_impl is None:
                continue
            own = module is self._model or module in self._tapped()  # whose hooks are compiled too
            if own or self._hears_within(module):
                self._patches.append(CompiledCallPatch(module, self._switch()))

    def _switch(self) -> EagerSwitch:
        return EagerSwitch(self._channel.is_watched)

    def _hears_within(self, module: nn.Module) -> bool:
        tapped = self._tapped()
        return any(part in tapped for part in module.modules() if part is not module)

    def _tapped(self) -> set[nn.Module]:
        return {*self._modules.values(), *self._parts.values()}

    def enter(self, parts: Mapping[str, nn.Module]) -> None:
        """Hear what some parts of the model are called with, and no others any more."""
        self._fused = fused_parts(self._model)  # of modules that were replaced, too
        if parts == self._parts:
            return
        for entry in self._part_entries:
            entry.remove()
        self._parts = dict(parts)
        self._part_entries = [self._enter(name, part) for name, part in parts.items()]

    def _enter(self, name: str, module: nn.Module) -> RemovableHandle | ForwardPatch:
        entry = _Entry(name, self._channel)
        if module in self._fused:
            return ForwardPatch(module, before=entry)
        return module.register_forward_pre_hook(entry, with_kwargs=True)

    def _leave(self, model: nn.Module) -> RemovableHandle | ForwardPatch:
        leaving = _Exit("", self._channel)
        if model in self._fused:
            return ForwardPatch(model, last=leaving)
        return model.register_forward_hook(leaving, always_call=True)

    def add(self, modules: Mapping[str, nn.Module]) -> None:
        """Tap modules; a name whose module was replaced since is tapped at the new one."""
        for name, module in modules.items():
            if self._modules.get(name) is module:
                continue
            if (before := self._handles.get(name)) is not None:
                before.remove()
            self._handles[name], self._modules[name] = None, module
            if isinstance(module, torch.jit.ScriptModule):
                warnings.warn(f"layer {name!r} is not coded: it is scripted", stacklevel=2)
                continue
            tap = _Tap(name, self._channel)
            if module in self._fused:
                self._handles[name] = ForwardPatch(module, after=tap)
            else:
                self._handles[name] = module.register_forward_hook(tap, with_kwargs=True)
        self.uncompile()

    def drop(self, names: Iterable[str]) -> None:
        """Take the taps of some names off, whose modules are gone."""
        for name in names:
            if (handle := self._handles.pop(name, None)) is not None:
                handle.remove()
            self._modules.pop(name, None)

    def remove(self) -> None:
        """Take every tap of this set off its module."""
        handles = (*self._handles.values(), *self._entries, *self._part_entries, *self._patches)
        for handle in handles:
            if handle is not None:
                handle.remove()

    @contextmanager
    def watched(self, visitor: Visitor) -> Iterator[None]:
        """Within the block, `visitor` sees this thread's calls, and each tapped output."""
        if torch.compiler.is_compiling():
            self._channel.traced = visitor
            try:
                yield
            finally:
                self._channel.traced = None
            return
        self.uncompiles()
        watching, channel = _WATCHING.get(), id(self._channel)
        if channel in watching:  # as in a block of `recording`, which sees the call too
            visitor = _Both(watching[channel], visitor)
        token = _WATCHING.set({**watching, channel: visitor})
        try:
            yield
        finally:
            _WATCHING.reset(token)

    def __getstate__(self) -> dict[str, Any]:
        """Without patches that a copy of the model does not have: PyTorch compiles its own anew."""
        patches = [one for one in self._patches if isinstance(one, ForwardPatch)]
        kept = [one for one in patches if not hasattr(one.module, "dynamo_ctx")]
        return vars(self) | {"_patches": kept, "_searched": False}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """The taps of a copy are its own."""
        vars(self).update(state)
        self._channel.owner = ref(self)

    def __del__(self) -> None:
        self.remove()


class _Both:
    """Two who watch a call."""

    def __init__(self, outer: Visitor, inner: Visitor) -> None:
        self._visitors = outer, inner

    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for visitor in self._visitors:
            visitor.begin(name, args, kwargs)

    def end(self) -> None:
        for visitor in self._visitors:
            visitor.end()

    def visit(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        for visitor in self._visitors:
            visitor.visit(name, inputs, output)


class _Channel:
    """What the taps of one set know of their set: not the set itself, so that it can go.

    The channel of a copy of the model alone has no owner.
    """

    owner: Callable[[], TapSet | None] = staticmethod(lambda: None)

    def __init__(self, unwatched: Callable[[], None]) -> None:
        self.unwatched = unwatched
        self.traced: Visitor | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "owner"}

    def visitor(self) -> Visitor | None:
        """Who is watching now; nobody watches what a checkpoint runs again in backward."""
        if torch.compiler.is_compiling():
            return self.traced
        if is_recomputed():
            return None
        visitor = _WATCHING.get().get(id(self))
        if visitor is None:
            self.unwatched()
        return visitor

    def is_watched(self) -> bool:
        """Whether somebody watches now."""
        return self.visitor() is not None


class _Hook:
    """What is called before or after a module's forward, on behalf of a set of taps."""

    def __init__(self, name: str, channel: _Channel) -> None:
        self.name = name
        self.channel = channel

    @property
    def __name__(self) -> str:  # which TorchScript asks a hook for, first of all
        raise NotReadyError(
            "torch.jit.script: the model is wrapped, and the hooks that watch it are no "
            "TorchScript; call unwrap() first (of a copy of the model, wrap(copy).unwrap()), or "
            "torch.jit.trace, which records the model alone"
        )


class _Tap(_Hook):
    """What follows a module's forward: hands the output on, and changes nothing."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        """`rest` is (kwargs, output), or (output,) where a quantised module took over hooks."""
        visitor = self.channel.visitor()
        if visitor is not None:
            inputs = (*args, *rest[0].values()) if len(rest) > 1 else args
            visitor.visit(self.name, inputs, rest[-1])


class _Entry(_Hook):
    """What precedes the forward of the model or of a part: tells what it is called with."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], *rest: Any) -> None:
        """`rest` is (kwargs,), or empty as in `_Tap`."""
        visitor = self.channel.visitor()
        if visitor is not None:
            visitor.begin(self.name, args, rest[0] if rest else {})


class _Exit(_Hook):
    """What follows the forward of the model, also one that fails."""

    def __call__(self, *_: Any) -> None:
        """Its arguments are those of any forward hook."""
        visitor = self.channel.visitor()
        if visitor is not None:
            visitor.end()


def _remove_orphans(model: nn.Module) -> None:
    """Take off the hooks that came with a copy of a wrapped model, and belong to nobody."""
    for module in model.modules():
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for kind in ("_forward_hooks", "_forward_pre_hooks"):
            hooks = getattr(module, kind)
            for key in [k for k, hook in hooks.items() if isinstance(hook, _Hook)]:
                if hooks[key].channel.owner() is None:
                    del hooks[key]
                    for mark in ("with_kwargs", "always_called"):
                        getattr(module, f"{kind}_{mark}", {}).pop(key, None)


def fused_parts(model: nn.Module) -> set[nn.Module]:
    """The modules on which a hook would change the kernel: Transformer layers, with their parts.

    In evaluation `nn.TransformerEncoderLayer` is one fused kernel, unless it or a part of it has
    hooks; `nn.TransformerEncoder` has then packed the sequences for it, and fails.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.TransformerEncoderLayer)]
    return {part for layer in layers for part in layer.modules()}


def is_record(value: Any) -> bool:
    """Whether a value is a dataclass's, and no mapping besides, as the outputs of Transformers."""
    kind = is_dataclass(value) and not isinstance(value, type)
    return kind and not isinstance(value, Mapping)


def activation_of(output: Any, pick: str | int | None = None) -> Tensor | PackedSequence | None:
    """The activation in a module's output: itself, the part that `pick` names, or the first tensor.

    A `PackedSequence` counts as a tensor.

    Raises:
        InputError: a part that the output does not have.
    """
    if pick is not None:
        try:
            output = getattr(output, str(pick)) if is_record(output) else output[pick]
        except (AttributeError, KeyError, IndexError, TypeError):
            parts = list(output) if isinstance(output, Mapping) else type(output).__name__
            raise InputError(f"output: found {parts}, which has no part {pick!r}") from None
    if isinstance(output, ACTIVATIONS):
        return output
    if is_record(output):
        output = tuple(getattr(output, field.name, None) for field in fields(output))
    if isinstance(output, Mapping):
        output = tuple(output.values())
    if isinstance(output, (tuple, list)):
        return next((part for part in output if isinstance(part, ACTIVATIONS)), None)
    return None
