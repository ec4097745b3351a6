"""Attributes: the plain attributes of a model's modules as they were, to know if others came."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, Mapping
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from nervecode.layers.guard.mode import KEPT
from nervecode.layers.guard.options import class_of, declared, is_ignored

MOST = 64  # elements of a container that is kept
PRIVATE = {"_disable_adapters", "_active_adapter"}  # that tell something: of PEFT
IDLE = KEPT | {"gradient_checkpointing", "grad_checkpointing"}  # change no value in evaluation
FUNCTION = (FunctionType, BuiltinFunctionType, MethodType, partial)
SWITCH = (bool, float, str)  # and no integer, which may be a counter, unless it is declared


class Attributes:
    """What modules keep beside weights and parts, as far as it is plain: switches, scales, options.

    Kept are booleans, floats, texts and functions, containers of the former, and whatever plain is
    declared as an option, as by an argument of the constructor; not what changes no value in
    evaluation, nor what is private, which is bookkeeping. Whether an attribute changes what a
    module computes cannot be told by looking at it.
    """

    def __init__(self, model: nn.Module) -> None:
        self._seen = tuple(
            (name, vars(module), kept.items())
            for name, module in model.named_modules()
            if not isinstance(module, torch.jit.ScriptModule) and (kept := dict(_plain_of(module)))
        )

    def remarks(self) -> Iterator[tuple[str, str]]:
        """Each attribute that some module has otherwise now, by its name, and that in words."""
        for name, own, kept in self._seen:  # each call does this
            if not _holds(kept, own):
                where = f"module {name!r}" if name else "the model"
                for key, value in kept:
                    if not _holds({key: value}.items(), own):
                        found = f"{key}={own[key]!r:.80}" if key in own else f"no {key}"
                        yield (
                            key,
                            f"{where} has {found}, and had {key}={value!r:.80} when its codes were "
                            "made: if that changes what it computes, fit and calibrate again",
                        )


def _holds(kept: ItemsView[str, Any], own: Mapping[str, Any]) -> bool:
    """Whether attributes are as they were."""
    try:
        return kept <= own.items()
    except Exception:  # of what is compared by elements, as tensors are: nothing plain
        return False


def _plain_of(module: nn.Module) -> Iterator[tuple[str, Any]]:
    """The plain attributes of a module, containers copied."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return  # whose rate counts in training, where it is looked at
    options = declared(class_of(module))
    for name, value in vars(module).items():
        if name in IDLE or is_ignored(name) or (name.startswith("_") and name not in PRIVATE):
            continue
        if isinstance(value, (*SWITCH, *FUNCTION)) or (
            name in options and isinstance(value, (int, type(None)))
        ):
            yield name, value
        elif isinstance(value, (list, tuple, dict)) and 0 < len(value) <= MOST:
            parts = value.values() if isinstance(value, dict) else value
            kinds = (*SWITCH, int) if name in options else SWITCH
            if all(isinstance(part, kinds) for part in parts):
                yield name, value.copy() if isinstance(value, (list, dict)) else value
