"""The registries of data sets, outliers and shifts: dicts, and a decorator that fills them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from nervecode.lab.data.images import ImageFiles
from nervecode.lab.data.samples import Samples, Shape


@dataclass(frozen=True)
class Dataset:
    """A labelled data set as its publisher made it; `test` is None where there is one part."""

    train: Samples
    test: Samples | None = None


@dataclass(frozen=True)
class ImageDataset:
    """The same as `Dataset`, of pictures that are decoded once their size is known."""

    train: ImageFiles
    test: ImageFiles | None = None


LoadDataset = Callable[[], Dataset]
ListImages = Callable[[str], ImageDataset]
MakeOutliers = Callable[[Shape, torch.Generator], Tensor]
MakeShift = Callable[[Tensor, float | None, torch.Generator], Tensor]

DATASETS: dict[str, LoadDataset] = {}
"""Labelled sets: () -> Dataset."""
IMAGE_SETS: dict[str, ListImages] = {}
"""Pictures in files, of any size: what follows `NAME:` -> ImageDataset."""
OUTLIERS: dict[str, MakeOutliers] = {}
"""Unlabelled outliers: (shape of one ID input, generator) -> (N, *shape) inputs."""
SHIFTS: dict[str, MakeShift] = {}
"""Shifts of ID inputs: (inputs, strength or None for the default, generator) -> inputs."""

F = TypeVar("F", bound=Callable[..., object])


def register(registry: dict[str, F], name: str | None = None) -> Callable[[F], F]:
    """A decorator that enters a function under its name."""

    def enter(function: F) -> F:
        registry[name or function.__name__] = function
        return function

    return enter
