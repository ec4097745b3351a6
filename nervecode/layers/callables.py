"""Callables: which names the code of a value reads, with all code that it refers to."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from functools import cached_property, partial
from operator import attrgetter, methodcaller
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

KNOWN = frozenset({"torch", "numpy", *sys.stdlib_module_names})  # whose helpers are told the mode
PLAIN = (bool, int, float, complex, str, bytes, type(None), Tensor, nn.Module, ModuleType)
GATHERED = (dict, list, tuple, set, frozenset)
MOST = 4096  # values that are read, at most


class Reading(NamedTuple):
    """What some code reads.

    Attributes:
        names: of attributes and globals, and constants that may be such names.
        whole: whether all the code could be read.
    """

    names: frozenset[str]
    whole: bool


def read_code(values: Iterable[Any]) -> Reading:
    """What the code of some values reads: of functions, classes, callable objects, collections.

    Of PyTorch, NumPy and the standard library only the given values themselves are read.
    """
    due = list(values)
    given = set(map(id, due))
    names: set[str] = set()
    seen: dict[int, Any] = {}  # which keeps them, and so their ids
    whole = True
    while due and len(seen) < MOST:
        value = due.pop()
        if id(value) in seen or isinstance(value, PLAIN):
            continue
        seen[id(value)] = value
        if isinstance(value, FunctionType):
            read = _names(value.__code__) if id(value) in given or not is_known(value) else set()
            names |= read
            due += _referred(value, read)
        else:
            parts = _parts(value)
            whole = whole and parts is not None
            due += parts or ()
    return Reading(frozenset(names), whole and not due)


def is_code(value: Any) -> bool:
    """Whether a value is code by itself, and not by its class."""
    if isinstance(value, (type, *GATHERED)):
        return True
    by_class = getattr(type(value), "__call__", None)  # noqa: B004
    return callable(value) and not isinstance(by_class, FunctionType)


def is_known(value: Any) -> bool:
    """Whether a value is of PyTorch, NumPy, the standard library, or what watches here."""
    home = _home(value)
    return home.partition(".")[0] in KNOWN or home.startswith("nervecode.layers.")


def _home(value: Any) -> str:
    """The name of the module that a function, class or object is from."""
    if isinstance(value, FunctionType):  # whatever a decorator says
        return str(value.__globals__.get("__name__"))
    owner = getattr(value, "__self__", None)  # of a built-in function: a module or an object
    if isinstance(owner, ModuleType):
        return owner.__name__
    home = getattr(value, "__module__", None) or getattr(type(value), "__module__", None)
    return str(home) if owner is None or home != "builtins" else _home(type(owner))


def _names(code: CodeType) -> set[str]:
    """What a function's code reads, with that of the functions within it."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, str):
            names.add(constant)  # as in getattr(module, "training")
        elif isinstance(constant, CodeType):
            names |= _names(constant)
    return names


def _referred(function: FunctionType, names: set[str]) -> Iterator[Any]:
    """The values that a function was given, and those behind the names that it reads."""
    yield getattr(function, "__wrapped__", None)
    yield from function.__defaults__ or ()
    yield from (function.__kwdefaults__ or {}).values()
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:  # still empty
            continue
    if is_known(function):
        return
    package = function.__globals__.get("__package__")
    for name in names:
        yield (value := function.__globals__.get(name))
        for module in (value, sys.modules.get(name), sys.modules.get(f"{package}.{name}")):
            if isinstance(module, ModuleType) and module.__name__.partition(".")[0] not in KNOWN:
                yield from (vars(module).get(other) for other in names)


def _parts(value: Any) -> list[Any] | None:
    """What stands for the code of a value that is no function; None where it cannot be read."""
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, cached_property):
        return [value.func]
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        return [value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, GATHERED):
        return list(value.values() if isinstance(value, dict) else value)
    if isinstance(value, type):
        own = [cls for cls in value.__mro__ if not is_known(cls)]
        # Modules that a call makes are of no mode but their own.
        return [] if issubclass(value, nn.Module) else [p for c in own for p in vars(c).values()]
    if isinstance(value, (attrgetter, methodcaller)):
        return None
    if not is_code(value):
        return [] if is_known(type(value)) else [type(value)]
    if (wrapped := getattr(value, "__wrapped__", None)) is not None:
        return [wrapped]
    return [] if is_known(value) else None
