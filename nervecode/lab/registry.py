"""Registries: names that are known before what they stand for is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

from nervecode.errors import InputError, did_you_mean

T = TypeVar("T")


class Registry(dict[str, T]):
    """Name -> what it stands for.

    Raises:
        InputError: on a look-up of an unknown name; the nearest one is shown.
    """

    def __init__(self, kind: str, entries: Mapping[str, T]) -> None:
        super().__init__(entries)
        self.kind = kind

    def __missing__(self, name: str) -> T:
        raise InputError(f"unknown {self.kind} {name!r}; {did_you_mean(name, self)}")


@dataclass(frozen=True)
class Function:
    """A function by its module and name; the module is loaded when it is first called."""

    module: str
    name: str

    def load(self) -> Any:
        """The function itself."""
        return getattr(import_module(self.module), self.name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the function returns."""
        return self.load()(*args, **options)


def functions(package: str, **modules: str) -> dict[str, Any]:
    """Functions of a package by name.

    Args:
        package: its dotted name.
        modules: module of the package -> the names of functions that it has, apart by spaces.

    >>> functions("os", path="join split")["join"]("a", "b")
    'a/b'
    """
    return {
        name: Function(f"{package}.{module}", name)
        for module, names in modules.items()
        for name in names.split()
    }
