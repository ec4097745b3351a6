"""Nervecode: how surprising is an input to a network itself, layer by layer, in bits?"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nervecode.layers.wrap import WrappedModel, load, wrap
    from nervecode.monitor import Monitor

# No release on PyPI, where another package has this name, can have a local version (PEP 440).
__version__ = "1.0.0.dev0+bits"

# A name loads its module when it is first used, so that `import nervecode` costs nothing.
_HOMES = {
    "Monitor": "nervecode.monitor",
    "WrappedModel": "nervecode.layers",
    "load": "nervecode.layers",
    "wrap": "nervecode.layers",
}
_ROOMS = ("core", "errors", "lab", "layers", "monitor", "scoring", "training", "viz")

__all__ = ["Monitor", "WrappedModel", "__version__", "load", "wrap"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    if name in _ROOMS:
        return import_module(f"nervecode.{name}")
    raise AttributeError(f"module 'nervecode' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_ROOMS])
