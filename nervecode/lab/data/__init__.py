"""Data: sets by name, where they live, shifts, and the splits of a benchmark.

A name loads its module when it is first used: what only lists the sets (`catalogue`) needs no
torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nervecode.lab.data.registry import DATASETS, IMAGE_SETS, OUTLIERS, SHIFTS
    from nervecode.lab.data.samples import Samples, as_float
    from nervecode.lab.data.splits import OodSet, Splits, build_splits, set_name

_HOMES = {
    "DATASETS": "registry",
    "IMAGE_SETS": "registry",
    "OUTLIERS": "registry",
    "SHIFTS": "registry",
    "OodSet": "splits",
    "Samples": "samples",
    "Splits": "splits",
    "as_float": "samples",
    "build_splits": "splits",
    "set_name": "splits",
}
# They fill the registries.
_FILLERS = ("array_sets", "bundled", "idx_sets", "image_sets", "pictures", "shifts")

__all__ = [
    "DATASETS",
    "IMAGE_SETS",
    "OUTLIERS",
    "SHIFTS",
    "OodSet",
    "Samples",
    "Splits",
    "as_float",
    "build_splits",
    "set_name",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nervecode.lab.data' has no attribute {name!r}")
    for filler in _FILLERS:
        import_module(f"nervecode.lab.data.{filler}")
    return getattr(import_module(f"nervecode.lab.data.{_HOMES[name]}"), name)
