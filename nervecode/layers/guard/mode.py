"""ModeUse: which modules compute something else in training than in evaluation mode."""

from __future__ import annotations

from enum import IntEnum
from functools import cache
from typing import Any

import torch
from torch import nn

from nervecode.layers.callables import CODELESS, CodeNames, is_code, is_known, read_code
from nervecode.layers.layout import TRANSFORMERS

KEPT = frozenset(vars(nn.Module()))  # what each module has
SWITCHES = ("train", "eval")


class ModeUse(IntEnum):
    """Whether a module computes something else in training than in evaluation mode."""

    NO = 0
    UNKNOWN = 1
    YES = 2


def mode_use(module: nn.Module) -> ModeUse:
    """Whether a module's code reads `self.training`, and its options make that matter.

    The module's own code is read with all that it refers to: decorated and inner functions,
    properties, helpers, callable objects, hooks. The answer is UNKNOWN where some of that is not
    Python, where there is too much of it, or where `train` or `eval` does more than set the mode.
    """
    try:
        return _of_module(module)
    except Exception:  # a module that cannot be inspected must not cost the user an answer
        return ModeUse.UNKNOWN


def _of_module(module: nn.Module) -> ModeUse:
    if isinstance(module, torch.jit.ScriptModule):
        return ModeUse.YES if _script_asks(module) else ModeUse.NO
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    own = {name: value for name, value in vars(module).items() if name not in KEPT}
    uses = [_of_class(module), *map(_of_hook, hooks)]
    uses += [_of_value(value) for value in own.values() if not isinstance(value, CODELESS)]
    return max([*uses, *(ModeUse.UNKNOWN for name in SWITCHES if name in own)])


def _of_class(module: nn.Module) -> ModeUse:
    lineage = tuple(cls for cls in type(module).__mro__ if cls not in (nn.Module, object))
    use = _by_options(module)
    if use is None:
        return _of_classes(lineage)
    return max(use, _of_classes(tuple(cls for cls in lineage if not is_known(cls))))


def _by_options(module: nn.Module) -> ModeUse | None:
    """What the options of PyTorch's own modules say, whose code asks for the mode in any case."""
    if isinstance(module, TRANSFORMERS):  # which ask for the sake of speed; their parts count
        return ModeUse.NO
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return ModeUse.YES if module.p > 0 else ModeUse.NO
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return ModeUse.YES if module.dropout > 0 else ModeUse.NO
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return ModeUse.YES if module.track_running_stats else ModeUse.NO
    return None


def _of_hook(hook: Any) -> ModeUse:
    return _of_code(read_code([hook])) if is_code(hook) else _of_classes(type(hook).__mro__[:-1])


def _of_value(value: Any) -> ModeUse:
    if is_code(value):
        return _of_code(read_code([value]))
    return ModeUse.NO if is_known(type(value)) else _of_classes(type(value).__mro__[:-1])


@cache
def _of_classes(lineage: tuple[type, ...]) -> ModeUse:
    members = [(cls, name, value) for cls in lineage for name, value in vars(cls).items()]
    # What `__init__` read of the mode does not change with it, and `training` is the mode itself.
    read = [value for _, name, value in members if name not in ("__init__", "training")]
    switched = any(name in SWITCHES and not is_known(cls) for cls, name, _ in members)
    return max(_of_code(read_code(read)), ModeUse.UNKNOWN if switched else ModeUse.NO)


def _of_code(code: CodeNames) -> ModeUse:
    if "training" in code.names:
        return ModeUse.YES
    return ModeUse.NO if code.whole else ModeUse.UNKNOWN


def _script_asks(module: torch.jit.ScriptModule) -> bool:
    methods: Any = module._c
    graphs = (methods._get_method(name).graph for name in methods._method_names())
    return any('name="training"' in str(graph) for graph in graphs)
