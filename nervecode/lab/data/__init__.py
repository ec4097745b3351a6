"""Data: sets by name, shifts, and the splits of a benchmark."""

from nervecode.lab.data import bundled, shifts  # noqa: F401  (they fill the registries)
from nervecode.lab.data.registry import DATASETS, OUTLIERS, SHIFTS
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.splits import OodSet, Splits, build_splits, set_name

__all__ = [
    "DATASETS",
    "OUTLIERS",
    "SHIFTS",
    "OodSet",
    "Samples",
    "Splits",
    "build_splits",
    "set_name",
]
