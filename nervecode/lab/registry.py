"""Registries: names that are known before what they stand for is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar

from nervecode.errors import InputError, brief, did_you_mean

T = TypeVar("T")


class Registry(dict[str, T]):
    """Name -> what it stands for: what is built in, and what installed packages offer.

    Packages offer something by an entry point (https://packaging.python.org/specifications/
    entry-points/). Its name is known from their metadata; it is loaded when it is looked up.

    Args:
        kind: what the names are names of.
        entries: what is built in.
        group: of the entry points; None for a registry that takes none.
        adapt: makes an entry of what a package offers under a name.

    Attributes:
        offered: name -> the entry point behind it.
        hidden: name -> what is to be told where that name is used: who else offers it.

    Raises:
        InputError: on a look-up of an unknown name, and the nearest one is shown; or of one that
            cannot be loaded.
    """

    def __init__(
        self,
        kind: str,
        entries: Mapping[str, T],
        *,
        group: str | None = None,
        adapt: Callable[[str, Any], T] | None = None,
    ) -> None:
        super().__init__(entries)
        self.kind, self.adapt = kind, adapt
        self.offered: dict[str, EntryPoint] = {}
        self.hidden: dict[str, str] = {}
        for entry in _entry_points(group) if group else ():
            self._take(entry)

    def __missing__(self, name: str) -> T:
        raise InputError(f"unknown {self.kind} {name!r}; {did_you_mean(name, self)}")

    def __getitem__(self, name: str) -> T:
        value = super().__getitem__(name)
        if isinstance(value, EntryPoint):
            assert self.adapt is not None
            self[name] = value = self.adapt(name, self._load(value))
        return value

    def _take(self, entry: EntryPoint) -> None:
        if entry.name in self:
            taken = self.offered.get(entry.name)
            first = "is built in" if taken is None else f"is that of {package_of(taken)}"
            self.hidden[entry.name] = (
                f"{self.kind} {entry.name!r} {first}; the one that {package_of(entry)} offers by "
                "the same name is not used"
            )
            return
        self.offered[entry.name] = entry
        self[entry.name] = entry  # type: ignore[assignment] # until it is looked up

    def _load(self, entry: EntryPoint) -> Any:
        try:
            return entry.load()
        except Exception as error:
            raise InputError(
                f"{self.kind} {entry.name!r}: {entry.value} of {package_of(entry)} does not load "
                f"({brief(error)})"
            ) from error


def _entry_points(group: str) -> list[EntryPoint]:
    """Those of a group, by the names of their packages."""
    return sorted(entry_points(group=group), key=lambda entry: (package_of(entry), entry.name))


def package_of(entry: EntryPoint) -> str:
    """Name and version of the package that offers something."""
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist else "a package"


@dataclass(frozen=True)
class Function:
    """A function by its module and name; the module is loaded when it is first called.

    Attributes:
        module: dotted.
        name: of the function.
        arguments: what it is called with first.
    """

    module: str
    name: str
    arguments: tuple[Any, ...] = ()

    def load(self) -> Any:
        """The function itself."""
        return getattr(import_module(self.module), self.name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        """What the function returns."""
        return self.load()(*self.arguments, *args, **options)


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


def by_name(module: str, function: str, names: str) -> dict[str, Any]:
    """One function for several names, which is called with the name.

    >>> by_name("os.path", "join", "a b")["a"]("c")
    'a/c'
    """
    return {name: Function(module, function, (name,)) for name in names.split()}
