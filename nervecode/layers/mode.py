"""Mode: which modules do something else in training than in evaluation."""

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


class Heed(IntEnum):
    """Whether a module does something else in training than in evaluation."""

    NO = 0
    UNKNOWN = 1
    YES = 2


def heed_of(module: nn.Module) -> Heed:
    """Whether a module does something else in training: its code asks, and it has reason to.

    Its own code is read, with all that this refers to: decorated and inner functions, properties,
    helpers, callable objects, hooks. It is unknown where some of it is not Python, or there is too
    much of it, or where `train` or `eval` does more than to set the mode.
    """
    try:
        return _heed_of(module)
    except Exception:  # something that cannot be looked at comes between no model and its answer
        return Heed.UNKNOWN


def _heed_of(module: nn.Module) -> Heed:
    if isinstance(module, torch.jit.ScriptModule):
        return Heed.YES if _script_asks(module) else Heed.NO
    hooks = (*module._forward_pre_hooks.values(), *module._forward_hooks.values())
    own = {name: value for name, value in vars(module).items() if name not in KEPT}
    heeds = [_heed_of_kind(module), *map(_heed_of_hook, hooks)]
    heeds += [_heed_of_value(value) for value in own.values() if not isinstance(value, CODELESS)]
    return max([*heeds, *(Heed.UNKNOWN for name in SWITCHES if name in own)])


def _heed_of_kind(module: nn.Module) -> Heed:
    lineage = tuple(cls for cls in type(module).__mro__ if cls not in (nn.Module, object))
    heed = _heed_by_options(module)
    if heed is None:
        return _heed_of_classes(lineage)
    return max(heed, _heed_of_classes(tuple(cls for cls in lineage if not is_known(cls))))


def _heed_by_options(module: nn.Module) -> Heed | None:
    """What the options of PyTorch's own modules say, whose code asks in any case."""
    if isinstance(module, TRANSFORMERS):  # which ask for the sake of speed; their parts count
        return Heed.NO
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return Heed.YES if module.p > 0 else Heed.NO
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return Heed.YES if module.dropout > 0 else Heed.NO
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return Heed.YES if module.track_running_stats else Heed.NO
    return None


def _heed_of_hook(hook: Any) -> Heed:
    return _heed(read_code([hook])) if is_code(hook) else _heed_of_classes(type(hook).__mro__[:-1])


def _heed_of_value(value: Any) -> Heed:
    if is_code(value):
        return _heed(read_code([value]))
    return Heed.NO if is_known(type(value)) else _heed_of_classes(type(value).__mro__[:-1])


@cache
def _heed_of_classes(lineage: tuple[type, ...]) -> Heed:
    """What the code of some classes says."""
    members = [(cls, name, value) for cls in lineage for name, value in vars(cls).items()]
    # What `__init__` read of the mode does not change with it, and `training` is the mode itself.
    read = [value for _, name, value in members if name not in ("__init__", "training")]
    switched = any(name in SWITCHES and not is_known(cls) for cls, name, _ in members)
    return max(_heed(read_code(read)), Heed.UNKNOWN if switched else Heed.NO)


def _heed(code: CodeNames) -> Heed:
    if "training" in code.names:
        return Heed.YES
    return Heed.NO if code.whole else Heed.UNKNOWN


def _script_asks(module: torch.jit.ScriptModule) -> bool:
    methods: Any = module._c
    graphs = (methods._get_method(name).graph for name in methods._method_names())
    return any('name="training"' in str(graph) for graph in graphs)
