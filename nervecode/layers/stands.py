"""Stands: what takes a module's place where no hook can, or where a graph would hide its parts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

Hook = Callable[..., None]


class Way:
    """Which way something runs that was compiled: as it is while somebody watches.

    And again where a checkpoint runs it anew for the gradient of such a call.

    Args:
        is_watched: whether somebody watches now.
    """

    def __init__(self, is_watched: Callable[[], bool]) -> None:
        self._is_watched = is_watched
        self._plain = False

    def is_plain(self) -> bool:
        """Whether it runs as it is."""
        if torch.compiler.is_compiling():
            return self._is_watched()
        if torch._C._current_graph_task_id() < 0:
            self._plain = self._is_watched()
        return self._plain


class Stand:
    """Stands in the place of a module's forward, where hooks change what runs or are not heard.

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
        way: Way | None = None,
        before: Hook | None = None,
        after: Hook | None = None,
        last: Hook | None = None,
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
                output = as_it_is(self.own)(*args, **kwargs)
            else:
                output = self.own(*args, **kwargs)
        finally:
            if self.last is not None:
                self.last()
        if self.after is not None:
            self.after(self.module, args, kwargs, output)
        return output

    def is_in_place(self) -> bool:
        """Whether nobody has put another forward into this place since, but other stands."""
        top = vars(self.module).get("forward")
        while isinstance(top, Stand) and top is not self:
            top = top.own
        return top is self

    def remove(self) -> None:
        """Give the module its forward back, or a stand above what this one stood above.

        Under what another put there, all that it can is to be silent from now on.
        """
        self.before = self.after = self.last = self.way = None
        top = vars(self.module).get("forward")
        if top is not self:
            while isinstance(top, Stand) and top.own is not self:
                top = top.own
            if isinstance(top, Stand):
                top.own = self.own
        elif self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def as_it_is(forward: Any) -> Any:
    """A forward that was compiled as it was before, whoever lets it run so besides."""
    while isinstance(forward, Stand) and forward.way is not None:
        forward = forward.own
    return compiled_from(forward) or forward


class EagerStand:
    """Stands in the place of what `module.compile()` made of a module.

    Args:
        module: the module.
        way: which it runs.
    """

    def __init__(self, module: nn.Module, way: Way) -> None:
        self.module, self.way = module, way
        self.compiled = module._compiled_call_impl
        module._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module."""
        if self.compiled is None or self.way.is_plain():
            return self.module._call_impl(*args, **kwargs)
        return self.compiled(*args, **kwargs)

    def is_in_place(self) -> bool:
        """Whether the module was not compiled anew since."""
        top = self.module._compiled_call_impl
        while isinstance(top, EagerStand) and top is not self:
            top = top.compiled
        return top is self

    def remove(self) -> None:
        """Give the module back what it had, or whoever stands above what this one stood above."""
        top = self.module._compiled_call_impl
        if top is self:
            self.module._compiled_call_impl = self.compiled
            return
        while isinstance(top, EagerStand) and top.compiled is not self:
            top = top.compiled
        if isinstance(top, EagerStand):
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
        if isinstance(forward, Stand):
            forward = forward.own or type(module).forward.__get__(module)
        elif original := compiled_from(forward):
            forward = original
        else:
            return forward
