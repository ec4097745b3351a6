"""Names: of layers, of their repeated calls, and of their keys in a ModuleDict."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nervecode.scoring.code_length import LABEL


def key_of(name: str) -> str:
    """A layer's key in a ModuleDict, which takes no dots."""
    return name.replace(".", "/")


def layer_name(key: str) -> str:
    """The reverse of `key_of`."""
    return key.replace("/", ".")


def module_name(name: str) -> str:
    """The module behind a trace: `name` for `name`, `name#2` and `name:label`."""
    return name.split("#")[0].removesuffix(LABEL)


def numbered(name: str, found: Mapping[str, Any]) -> str:
    """`name` at the first call of a module within a forward, then `name#2`, `name#3`."""
    if name not in found:
        return name
    return f"{name}#{2 + sum(other.startswith(f'{name}#') for other in found)}"
