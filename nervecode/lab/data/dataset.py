"""Dataset: a labelled set as its publisher made it, in memory or as pictures in files."""

from __future__ import annotations

from dataclasses import dataclass

from nervecode.lab.data.images import ImageFiles
from nervecode.lab.data.samples import Samples


@dataclass(frozen=True)
class Dataset:
    """Its published parts; `test` is None where there is one part."""

    train: Samples
    test: Samples | None = None


@dataclass(frozen=True)
class ImageDataset:
    """The same as `Dataset`, of pictures that are decoded once their size is known."""

    train: ImageFiles
    test: ImageFiles | None = None
