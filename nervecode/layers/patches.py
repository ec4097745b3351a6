"""Patches of a module's forward, where a hook would change its kernel or would not be called."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nervecode.core.call import is_recomputed

Hook = Callable[..., None]


class EagerSwitch:
    """Whether a compiled forward runs eagerly: while it is watched.

    Also where a checkpoint runs it again in the backward pass of a watched call.

    Args:
        is_watched: whether the model is watched now.
    """

    def __init__(self, is_watched: Callable[[], bool]) -> None:
        self._is_watched = is_watched
        self._eager = False

    def runs_eagerly(self) -> bool:
        """Whether the forward runs eagerly now."""
        if torch.compiler.is_compiling():
            return self._is_watched()
        if not is_recomputed():
            self._eager = self._is_watched()
        return self._eager


class ForwardPatch:
    """Replaces a module's forward, where hooks would change what runs or are not called.

    Args:
        module: the module.
        before: called with what it is given.
        after: called with what it is given and returns.
        last: called at the end, also where the module fails.
        switch: whether a compiled forward runs eagerly.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        switch: EagerSwitch | None = None,
        before: Hook | None = None,
        after: Hook | None = None,
        last: Hook | None = None,
    ) -> None:
        self.module = module
        self.before = before
        self.after = after
        self.last = last
        self.switch = switch
        self.own: Callable[..., Any] | None = vars(module).get("forward")
        module.forward = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module's own forward."""
        if self.before is not None:
            self.before(self.module, args, kwargs)
        try:
            if self.own is None:
                output = type(self.module).forward(self.module, *args, **kwargs)
            elif self.switch is not None and self.switch.runs_eagerly():
                output = uncompiled_forward(self.own)(*args, **kwargs)
            else:
                output = self.own(*args, **kwargs)
        finally:
            if self.last is not None:
                self.last()
        if self.after is not None:
            self.after(self.module, args, kwargs, output)
        return output

    def is_in_place(self) -> bool:
        """Whether nobody has put another forward into this place since, but other patches."""
        top = vars(self.module).get("forward")
        while isinstance(top, ForwardPatch) and top is not self:
            top = top.own
        return top is self

    def remove(self) -> None:
        """Give the module its forward back, or the patch above this one what this one replaced.

        Below a forward that others have put there, it can only call no hook from now on.
        """
        self.before = self.after = self.last = self.switch = None
        top = vars(self.module).get("forward")
        if top is not self:
            while isinstance(top, ForwardPatch) and top.own is not self:
                top = top.own
            if isinstance(top, ForwardPatch):
                top.own = self.own
        elif self.own is None:
            del self.module.forward
        else:
            self.module.forward = self.own


def uncompiled_forward(forward: Any) -> Any:
    """A compiled forward as it was before, also below the patches of other watchers."""
    while isinstance(forward, ForwardPatch) and forward.switch is not None:
        forward = forward.own
    return compiled_original(forward) or forward


class CompiledCallPatch:
    """Replaces what `module.compile()` made of a module.

    Args:
        module: the module.
        switch: whether it runs eagerly.
    """

    def __init__(self, module: nn.Module, switch: EagerSwitch) -> None:
        self.module, self.switch = module, switch
        self.compiled = module._compiled_call_impl
        module._compiled_call_impl = self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the module."""
        if self.compiled is None or self.switch.runs_eagerly():
            return self.module._call_impl(*args, **kwargs)
        return self.compiled(*args, **kwargs)

    def is_in_place(self) -> bool:
        """Whether the module was not compiled anew since."""
        top = self.module._compiled_call_impl
        while isinstance(top, CompiledCallPatch) and top is not self:
            top = top.compiled
        return top is self

    def remove(self) -> None:
        """Give the module back what it had, or the patch above this one what this one replaced."""
        top = self.module._compiled_call_impl
        if top is self:
            self.module._compiled_call_impl = self.compiled
            return
        while isinstance(top, CompiledCallPatch) and top.compiled is not self:
            top = top.compiled
        if isinstance(top, CompiledCallPatch):
            top.compiled = self.compiled


def compiled_original(forward: Any) -> Callable[..., Any] | None:
    """What `torch.compile` made a forward from; None where it did not."""
    original: Callable[..., Any] | None = getattr(forward, "_torchdynamo_orig_callable", None)
    home = getattr(original, "__globals__", {}).get("__name__")
    # Around what is PyTorch's own, such as the forward of nn.Sequential, Dynamo puts a function.
    inner: Callable[..., Any] | None = getattr(original, "__wrapped__", None)
    return inner if home == "torch._dynamo.external_utils" and inner else original


def forward_of(module: nn.Module) -> Callable[..., Any]:
    """The forward of a module, below all patches and as it was before it was compiled."""
    forward: Callable[..., Any] = module.forward
    while True:
        if isinstance(forward, ForwardPatch):
            forward = forward.own or type(module).forward.__get__(module)
        elif original := compiled_original(forward):
            forward = original
        else:
            return forward
