"""Packages: those behind the names in a config that installed packages offer, and their versions.

Nothing of a package is loaded here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from nervecode.errors import InputError
from nervecode.files import sha256
from nervecode.lab.config.names import REGISTRIES, offered_names
from nervecode.lab.models.user_code import module_spec
from nervecode.lab.registry import package_of

Package = dict[str, str | None]


def packages(values: Mapping[str, Any]) -> dict[str, Package]:
    """`KIND NAME` -> package, version, and SHA-256 of the file of its module.

    What the module imports in turn is not hashed.

    Args:
        values: a config, as plain values.
    """
    return {
        f"{registry.kind} {name}": _about(registry.offered[name])
        for registry, name in offered_names(values)
        if name in registry.offered
    }


def changes(recorded: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """A sentence for each package that is not as it was when `packages` saw it."""
    registries = {registry.kind: registry for registry in REGISTRIES}
    for key, before in recorded.items():
        kind, _, name = key.partition(" ")
        registry = registries.get(kind)
        entry = registry.offered.get(name) if registry else None
        then = f"{before['package']} {before['version']}"
        if entry is None:
            yield _gone(key, before)
        elif package_of(entry) != then:
            yield f"{kind} {name!r} is that of {package_of(entry)}; the run was made with {then}"
        elif _about(entry)["sha256"] != before["sha256"]:
            yield f"{kind} {name!r}: {entry.module} of {then} has changed since the run was made"


@contextmanager
def recalling(recorded: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within it, an unknown name that a package had when a run was made is told with the package.

    Raises:
        InputError: the error that arose, in other words.
    """
    try:
        yield
    except InputError as error:
        lines = str(error).splitlines()
        for key, before in recorded.items():
            kind, _, name = key.partition(" ")
            unknown = f"unknown {kind} {name!r}; "
            lines = [
                line.partition(unknown)[0] + _gone(key, before) if unknown in line else line
                for line in lines
            ]
        if lines == str(error).splitlines():
            raise
        raise InputError("\n".join(lines)) from None


def _gone(key: str, before: Mapping[str, Any]) -> str:
    kind, _, name = key.partition(" ")
    then = f"{before['package']} {before['version']}"
    return f"{kind} {name!r} was that of {then} when the run was made; none offers it now"


def _about(entry: EntryPoint) -> Package:
    name, _, version = package_of(entry).rpartition(" ")
    spec = module_spec(entry.module, sys.path)
    file = Path(spec.origin) if spec and spec.has_location and spec.origin else None
    return {"package": name, "version": version, "sha256": sha256(file) if file else None}
