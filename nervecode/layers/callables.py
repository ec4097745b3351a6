"""Callables: which names the code of a value reads, with all code that it refers to."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Iterable, Iterator
from functools import cached_property, partial, partialmethod, singledispatchmethod
from operator import attrgetter, methodcaller
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any, NamedTuple

from torch import Tensor, nn

KNOWN = frozenset({"torch", "numpy", *sys.stdlib_module_names})  # whose helpers are told the mode
CODELESS = (bool, int, float, complex, str, bytes, type(None), Tensor, nn.Module, ModuleType)
GATHERED: tuple[Any, ...] = (dict, list, tuple, set, frozenset)
MOST = 1024  # values that are read, at most


class CodeNames(NamedTuple):
    """What some code reads.

    Attributes:
        names: of attributes and globals, and constants that may be such names.
        whole: whether all the code could be read.
    """

    names: frozenset[str]
    whole: bool


def read_code(values: Iterable[Any]) -> CodeNames:
    """What the code of some values reads: of functions, classes, callable objects, collections.

    Of PyTorch, NumPy and the standard library only the given values themselves are read.
    """
    due = deque(values)  # what is nearest is read first
    given = set(map(id, due))
    names: set[str] = set()
    seen: dict[int, Any] = {}  # which keeps them, and so their ids
    whole = True
    while due and len(seen) < MOST:
        value = due.popleft()
        if id(value) in seen or isinstance(value, CODELESS):
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
    return CodeNames(frozenset(names), whole and not due)


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
    if isinstance(value, type):
        return str(value.__module__)
    # What a built-in function is of: a module, a class or an object.
    owner = getattr(value, "__objclass__", None) or getattr(value, "__self__", None)
    if isinstance(owner, ModuleType):
        return owner.__name__
    home = getattr(value, "__module__", None) or getattr(type(value), "__module__", None)
    if owner is None or home != "builtins":
        return str(home)
    return _home(owner if isinstance(owner, type) else type(owner))


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
    paths = (f"{start}{name}" for name in names for start in ("", f"{package}."))
    due = [*map(function.__globals__.get, names), *map(sys.modules.get, paths)]
    entered: list[ModuleType] = []
    while due:
        value = due.pop()
        if not isinstance(value, ModuleType):
            yield value
        elif value not in entered and value.__name__.partition(".")[0] not in KNOWN:
            entered.append(value)
            due += [vars(value).get(name) for name in names]


def _parts(value: Any) -> list[Any] | None:
    """What stands for the code of a value that is no function; None where it cannot be read."""
    if isinstance(value, property):
        return [value.fget]
    if isinstance(value, (cached_property, partialmethod)):
        return [value.func]
    if isinstance(value, singledispatchmethod):
        return [*value.dispatcher.registry.values()]
    if isinstance(value, (staticmethod, classmethod, MethodType)):
        return [value.__func__]
    if isinstance(value, partial):
        return [value.func, *value.args, *value.keywords.values()]
    for kind in GATHERED:  # not as a kind of one's own has it, which may load what it names
        if isinstance(value, kind):
            held = dict.values(value) if kind is dict else kind.__iter__(value)
            return [*held, *_own(type(value))]
    if isinstance(value, type):
        if issubclass(value, nn.Module):  # those that a call makes are of no mode but their own
            return []
        own = [cls for cls in value.__mro__ if not is_known(cls)]
        return [part for cls in own for part in vars(cls).values()]
    if isinstance(value, (attrgetter, methodcaller)):
        return None
    if not is_code(value):
        return _own(type(value))
    if (wrapped := getattr(value, "__wrapped__", None)) is not None:
        return [wrapped]
    return [] if is_known(value) else None


def _own(kind: type) -> list[Any]:
    return [] if is_known(kind) else [kind]
