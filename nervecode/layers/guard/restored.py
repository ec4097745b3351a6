"""Blocks after which a model, and the random numbers that it draws, are as they were before."""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum
from functools import partial
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any
from weakref import ref

import numpy as np
import torch
import torch.fx
from torch import Tensor, nn

from nervecode.errors import InputError
from nervecode.layers.guard.mode import KEPT

PutBack = Callable[[], Any]

MOST = 10_000  # objects that are looked at: more are a trainer's or a data set's
UNTOUCHED = (
    *(type(None), bool, int, float, complex, str, bytes, range, slice, Enum, np.generic, np.dtype),
    *(torch.dtype, torch.device, torch.layout, torch.memory_format, nn.Parameter, torch.fx.Graph),
    *(type, FunctionType, BuiltinFunctionType, MethodType, ModuleType, ref, logging.Logger),
)  # what a forward does not change, or, as parameters, is not looked at


def own_random_numbers(device: torch.device | None = None) -> AbstractContextManager[None]:
    """A block that leaves the model's random numbers, on a device or the default one, as they were.

    Within it they go on from where they are.
    """
    device = device or torch.get_default_device()
    return torch.random.fork_rng([device] if device.type == "cuda" else [])


@contextmanager
def restored(model: nn.Module) -> Iterator[None]:
    """Within it, a forward may write to what the model's modules hold, and draw random numbers.

    Buffers, attributes, and what is in them have their content back, and names their objects:
    tensors, arrays, containers, random generators, objects with attributes. So have `random` and
    `np.random`. Parameters are not looked at.

    Raises:
        InputError: a module holds what cannot be put back, such as an iterator, or too much.
    """
    put_back: list[PutBack] = [
        partial(random.setstate, random.getstate()),
        partial(np.random.set_state, np.random.get_state()),
        *_of_modules(model),
    ]
    with ExitStack() as stack:  # whose callbacks all run, also where one fails
        for each in put_back:
            stack.callback(each)
        yield


def _of_modules(model: nn.Module) -> Iterator[PutBack]:
    """What gives the modules of a model back what they hold now."""
    modules = list(model.modules())
    tables = [table for module in modules for table in (vars(module), module._buffers)]
    known = [dict(table) for table in tables]
    values = [v for table in known for name, v in table.items() if name not in KEPT]
    yield from list(_of_values(values, {id(module) for module in modules}))
    for table, before in zip(tables, known, strict=True):
        yield partial(_reset, table, before)


def _of_values(values: list[Any], seen: set[int]) -> Iterator[PutBack]:
    """What gives values, and those in them, their content back; those in `seen` are left out."""
    most = len(seen) + MOST
    while values:
        value = values.pop()
        if isinstance(value, UNTOUCHED) or id(value) in seen:
            continue
        seen.add(id(value))
        if len(seen) > most:
            raise InputError(f"found more than {MOST} objects in the attributes of a model")
        put_back, parts = _of_value(value)
        yield from put_back
        values += parts


def _of_value(value: Any) -> tuple[list[PutBack], list[Any]]:
    """What gives a value its content back, and the values in it."""
    if isinstance(value, Tensor):
        return [partial(_rewrite, value, value._version, value.clone())], []
    if isinstance(value, np.ndarray):
        return [partial(np.copyto, value, value.copy())] if value.flags.writeable else [], []
    if generator := _generator(value):
        return [generator], []
    own = getattr(value, "__dict__", None)
    put_back: list[PutBack] = []
    parts = list((own or {}).values())
    if own:
        put_back.append(partial(_reset, own, dict(own)))
    if isinstance(value, (list, dict, set, deque)):
        content = _content(value)
        put_back.append(partial(_refill, value, content))
        parts += content
    elif isinstance(value, (tuple, frozenset)):
        parts += value
    elif own is None:
        raise InputError(f"found {type(value).__name__} in an attribute, which is not put back")
    return put_back, parts


def _generator(value: Any) -> PutBack | None:
    """What puts a random generator back to where it is."""
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state())
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate())
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state())
    if isinstance(value, np.random.Generator):
        value = value.bit_generator
    if isinstance(value, np.random.BitGenerator):
        return partial(setattr, value, "state", value.state)
    return None


def _rewrite(tensor: Tensor, version: int, content: Tensor) -> None:
    if tensor._version != version:
        tensor.copy_(content)


def _content(value: Any) -> list[Any]:
    return list(value.items() if isinstance(value, dict) else value)


def _refill(value: Any, content: list[Any]) -> None:
    """Give a container its content back, if it has another now."""
    now = _content(value)
    if len(now) == len(content) and all(map(_is_same, now, content)):
        return
    value.clear()
    if isinstance(value, dict):
        for key, part in content:
            value[key] = part
    else:
        value.update(content) if isinstance(value, set) else value.extend(content)


def _is_same(now: Any, before: Any) -> bool:
    if isinstance(now, tuple) and isinstance(before, tuple) and len(now) == len(before):
        return all(a is b for a, b in zip(now, before, strict=True))
    return now is before


def _reset(table: dict[str, Any], before: dict[str, Any]) -> None:
    """Give names their objects back; one by one, since other threads may use them."""
    for name in [name for name in table if name not in before]:
        del table[name]
    for name, value in before.items():
        if table.get(name) is not value:
            table[name] = value
