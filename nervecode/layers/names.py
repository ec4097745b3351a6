"""Names: of layers, of their repeated calls, and of their keys in a ModuleDict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from nervecode.scoring.readings import LABEL

TAKEN = frozenset(dir(nn.ModuleDict()))  # names that a ModuleDict has uses for


@cache
def key_of(name: str) -> str:
    """A layer's key in a ModuleDict, which takes no dots, and none of its own attributes.

    >>> key_of("layer1.0"), key_of("a/b"), key_of("keys")
    ('layer1/0', 'a%2Fb', 'keys/')
    """
    key = name.replace("%", "%25").replace("/", "%2F").replace(".", "/")
    return f"{key}/" if key in TAKEN else key


def layer_name(key: str) -> str:
    """The reverse of `key_of`."""
    name = key.removesuffix("/").replace("/", ".")
    return name.replace("%2F", "/").replace("%25", "%")


def module_name(name: str) -> str:
    """The module behind a trace: `name` for `name`, `name#2` and `name:label`."""
    return name.split("#")[0].removesuffix(LABEL)


def numbered(name: str, found: Mapping[str, Any]) -> str:
    """`name` at the first call of a module within a forward, then `name#2`, `name#3`."""
    if name not in found:
        return name
    return f"{name}#{2 + sum(other.startswith(f'{name}#') for other in found)}"
