"""Hooks: the forward hooks of a model as they were, to know whether others came or went."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.nn.modules import module as module_hooks

OWN = (  # whose hooks only observe, or change weights
    "nervecode.",
    "torch.",
    "transformers.utils.output_capturing",
)


class Hooks:
    """The forward hooks of a model as they were, by others than PyTorch and what watches here.

    Whether a hook changes what a module is given or returns cannot be told by looking at it.
    """

    def __init__(self, model: nn.Module) -> None:
        # A module's name, its hooks, their numbers, and those of them that are of others.
        self._seen = tuple(
            (name, before, after, (*before, *after), _others(before, after))
            for name, module in model.named_modules()
            if not isinstance(module, torch.jit.ScriptModule)
            for before, after in [(module._forward_pre_hooks, module._forward_hooks)]
        )

    def remark(self) -> str:
        """Which module has other hooks now, in words; empty where none has."""
        for name, before, after, numbers, others in self._seen:  # each call does this
            if (*before, *after) != numbers and _others(before, after) != others:
                module = f"module {name!r}" if name else "the model"
                return (
                    f"{module} has other forward hooks than when its codes were made: if "
                    "they change what it is given or returns, fit and calibrate again"
                )
        return ""


def of_this_thread(hook: Callable[..., None]) -> Callable[..., None]:
    """A hook that runs in the thread that registered it, and in no other.

    A model may answer requests in some threads while another fits codes to it.
    """
    thread = threading.get_ident()

    def heard(*args: Any) -> None:
        if threading.get_ident() == thread:
            hook(*args)

    return heard


def has_others(model: nn.Module) -> bool:
    """Whether others have forward hooks on a model, a part of it, or all modules."""
    own = (module for module in model.modules() if not isinstance(module, torch.jit.ScriptModule))
    pairs = [(module._forward_pre_hooks, module._forward_hooks) for module in own]
    pairs.append((module_hooks._global_forward_pre_hooks, module_hooks._global_forward_hooks))
    return any(_others(*hooks) for hooks in pairs)


def _others(*hooks: Mapping[int, Any]) -> list[int]:
    return [number for part in hooks for number, hook in part.items() if not _is_own(hook)]


def _is_own(hook: Any) -> bool:
    return str(getattr(hook, "__module__", None)).startswith(OWN)
