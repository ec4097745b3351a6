"""Names: of layers, of their repeated calls, in files, and of their keys in a ModuleDict."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from torch import nn

from nervecode.layers.callables import is_known
from nervecode.scoring.readings import LABEL

# The part of what wraps a model: compiled, parallel, sharded, checkpointed.
SHELLS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
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


def shell_part(module: nn.Module) -> str:
    """The name of the only part of a wrapper that computes what its part does; empty for others."""
    names = [name for name, _ in module._modules.items()]
    if len(names) != 1 or names[0] not in SHELLS:
        return ""
    return names[0] if isinstance(module, PARALLEL) or is_known(type(module)) else ""


def bare_names(model: nn.Module) -> dict[str, str]:
    """The names of modules within wrappers -> their names without them, where these are free.

    >>> bare_names(nn.DataParallel(nn.Sequential(nn.ReLU())))
    {'module.0': '0'}
    """
    modules = dict(model.named_modules())
    bare: dict[str, str] = {}
    for name in modules:
        above, _, own = name.rpartition(".")
        start = bare.get(above, "")
        inside = name and shell_part(modules[above]) == own
        bare[name] = start if inside else f"{start}.{own}".removeprefix(".")
    first = {path: name for name, path in reversed(bare.items()) if path}
    return {name: path for path, name in first.items() if path != name}


def renamed(layer: str, names: Mapping[str, str]) -> str:
    """The name of a layer, whose module has another by `names`."""
    module = module_name(layer)
    return names.get(module, module) + layer.removeprefix(module)
