"""Taps show chosen outputs to the call in progress, and to nothing else.

A tap is a forward hook. One that stored what it saw on the model would mix threads and outlive its
call; a tap only looks up who is watching: in eager mode through a context variable, so that every
thread and every nested wrapper sees its own call; while torch.compile traces, through a plain
attribute, because a context variable cannot be traced.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence
from torch.utils.hooks import RemovableHandle

from nervecode.errors import InputError, NotReadyError


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
        self._model = model
        self._fused = fused_parts(model)
        self._handles: dict[str, RemovableHandle | _Stand | None] = {}
        self._entries: list[RemovableHandle | _Stand] = []
        self._tapped: set[nn.Module] = set()
        self._uncompiled: dict[nn.Module, _Stand | _Eager] = {}
        if not isinstance(model, torch.jit.ScriptModule):
            self._entries = [self._enter("", model), self._leave(model)]

    @property
    def uncompiles(self) -> bool:
        """Whether something that was compiled runs as it is while somebody watches."""
        return bool(self._uncompiled)

    def uncompile(self) -> None:
        """Let what `torch.compile` made run as it is while somebody watches a part of it.

        As `model.forward = torch.compile(model.forward)`, or a part of the model: within a graph no
        tap is heard. A part that is watched from outside alone stays compiled.
        """
        for module in [m for m in self._model.modules() if m not in self._uncompiled]:
            forward = vars(module).get("forward")
            if _as_it_is(forward) is not forward and self._hears_within(module):
                self._uncompiled[module] = _Stand(module, way=_Way(self._channel))
            # With the hooks of its own.
            in_place = module._compiled_call_impl is not None and module is not self._model
            if in_place and (module in self._tapped or self._hears_within(module)):
                self._uncompiled[module] = _Eager(module, _Way(self._channel))

    def _hears_within(self, module: nn.Module) -> bool:
        return any(part in self._tapped for part in module.modules() if part is not module)

    def enter(self, parts: Mapping[str, nn.Module]) -> None:
        """Hear what some parts of the model are called with."""
        self._tapped.update(parts.values())
        self._entries += [self._enter(name, part) for name, part in parts.items()]

    def _enter(self, name: str, module: nn.Module) -> RemovableHandle | _Stand:
        entry = _Entry(name, self._channel)
        if module in self._fused:
            return _Stand(module, before=entry)
        return module.register_forward_pre_hook(entry, with_kwargs=True)

    def _leave(self, model: nn.Module) -> RemovableHandle | _Stand:
        leaving = _Exit("", self._channel)
        if model in self._fused:
            return _Stand(model, last=leaving)
        return model.register_forward_hook(leaving, always_call=True)

    def add(self, modules: Mapping[str, nn.Module]) -> None:
        """Tap further modules; names that are tapped already are left alone."""
        for name, module in modules.items():
            if name in self._handles:
                continue
            self._handles[name] = None
            if isinstance(module, torch.jit.ScriptModule):
                warnings.warn(f"layer {name!r} is not coded: it is scripted", stacklevel=2)
                continue
            self._tapped.add(module)
            tap = _Tap(name, self._channel)
            if module in self._fused:
                self._handles[name] = _Stand(module, after=tap)
            else:
                self._handles[name] = module.register_forward_hook(tap, with_kwargs=True)
        self.uncompile()

    def remove(self) -> None:
        """Take every tap of this set off its module."""
        for handle in (*self._handles.values(), *self._entries, *self._uncompiled.values()):
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

    def __init__(self, unwatched: Callable[[], None]) -> None:
        self.unwatched = unwatched
        self.traced: Visitor | None = None

    def visitor(self) -> Visitor | None:
        """Who is watching now; nobody watches what a checkpoint runs again in backward."""
        if torch.compiler.is_compiling():
            return self.traced
        if torch._C._current_graph_task_id() >= 0:
            return None
        visitor = _WATCHING.get().get(id(self))
        if visitor is None:
            self.unwatched()
        return visitor


class _Hook:
    """What is called before or after a module's forward, on behalf of a set of taps."""

    def __init__(self, name: str, channel: _Channel) -> None:
        self.name = name
        self.channel = channel

    @property
    def __name__(self) -> str:  # which TorchScript asks a hook for, first of all
        raise NotReadyError(
            "torch.jit.script: the model is wrapped, and the hooks that watch it are no "
            "TorchScript; call unwrap() first, or torch.jit.trace, which records the model alone"
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


def fused_parts(model: nn.Module) -> set[nn.Module]:
    """The modules on which a hook would change the kernel: Transformer layers, with their parts.

    In evaluation `nn.TransformerEncoderLayer` is one fused kernel, unless it or a part of it has
    hooks; `nn.TransformerEncoder` has then packed the sequences for it, and fails.
    """
    layers = [m for m in model.modules() if isinstance(m, nn.TransformerEncoderLayer)]
    return {part for layer in layers for part in layer.modules()}


class _Way:
    """Which way something runs that was compiled: as it is while somebody watches.

    And again where a checkpoint runs it anew for the gradient of such a call.

    Args:
        channel: by which they watch.
    """

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._plain = False

    def is_plain(self) -> bool:
        """Whether it runs as it is."""
        if torch.compiler.is_compiling():
            return self._channel.traced is not None
        if torch._C._current_graph_task_id() < 0:
            self._plain = self._channel.visitor() is not None
        return self._plain


class _Stand:
    """Stands in the place of a module's forward, where a hook would change what runs, or nothing.

    Args:
        module: the module.
        before: called with what it is given.
        after: called with what it is given and returns.
        last: called at the end, also where the module fails.
        way: which a compiled forward runs.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        way: _Way | None = None,
        before: _Entry | None = None,
        after: _Tap | None = None,
        last: _Exit | None = None,
    ) -> None:
        self.module = module
        self.before = before
        self.after = after
        self.last = last
        self.way = way
        self.own: Callable[..., Any] | None = vars(module).get("forward")
        module.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own forward."""
        if self.before is not None:
            self.before(self.module, args, kwargs)
        try:
            if self.own is None:
                output = type(self.module).forward(self.module, *args, **kwargs)
            elif self.way is not None and self.way.is_plain():
                output = _as_it_is(self.own)(*args, **kwargs)
            else:
                output = self.own(*args, **kwargs)
        finally:
            if self.last is not None:
                self.last()
        if self.after is not None:
            self.after(self.module, args, kwargs, output)
        return output

    def remove(self) -> None:
        """Give the module its forward back, or a stand above what this one stood above.

        Under what another put there, all that it can is to be silent from now on.
        """
        self.before = self.after = self.last = self.way = None
        top = vars(self.module).get("forward")
        if top is not self:
            while isinstance(top, _Stand) and top.own is not self:
                top = top.own
            if isinstance(top, _Stand):
                top.own = self.own
        elif self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def _as_it_is(forward: Any) -> Any:
    """A forward that was compiled as it was before, whoever lets it run so besides."""
    while isinstance(forward, _Stand) and forward.way is not None:
        forward = forward.own
    return compiled_from(forward) or forward


class _Eager:
    """Stands in the place of what `module.compile()` made.

    Args:
        module: the module.
        way: which it runs.
    """

    def __init__(self, module: nn.Module, way: _Way) -> None:
        self.module, self.way = module, way
        self.compiled = module._compiled_call_impl
        module._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module."""
        if self.compiled is None or self.way.is_plain():
            return self.module._call_impl(*args, **kwargs)
        return self.compiled(*args, **kwargs)

    def remove(self) -> None:
        """Give the module back what it had, or whoever stands above what this one stood above."""
        top = self.module._compiled_call_impl
        if top is self:
            self.module._compiled_call_impl = self.compiled
            return
        while isinstance(top, _Eager) and top.compiled is not self:
            top = top.compiled
        if isinstance(top, _Eager):
            top.compiled = self.compiled


def compiled_from(forward: Any) -> Callable[..., Any] | None:
    """What `torch.compile` made a forward from; None where it did not."""
    original: Callable[..., Any] | None = getattr(forward, "_torchdynamo_orig_callable", None)
    home = getattr(original, "__globals__", {}).get("__name__")
    # Around what is PyTorch's own, such as the forward of nn.Sequential, Dynamo puts a function.
    inner: Callable[..., Any] | None = getattr(original, "__wrapped__", None)
    return inner if home == "torch._dynamo.external_utils" and inner else original


def forward_of(module: nn.Module) -> Callable[..., Any]:
    """The forward of a module, also where another stands in its place or it was compiled."""
    forward: Callable[..., Any] = module.forward
    while True:
        if isinstance(forward, _Stand):
            forward = forward.own or type(module).forward.__get__(module)
        elif original := compiled_from(forward):
            forward = original
        else:
            return forward


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
