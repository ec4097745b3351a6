"""Labelled sets of 28x28 grey images in IDX files; `nervecode data fetch` gets them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.catalogue import CATALOGUE, find_file, locate, require
from nervecode.lab.data.idx import read_idx
from nervecode.lab.data.registry import DATASETS, Dataset, register
from nervecode.lab.data.samples import Samples


@register(DATASETS)
def fashion_mnist() -> Dataset:
    """70,000 pieces of clothing, ten classes (https://arxiv.org/abs/1708.07747)."""
    return _load("fashion_mnist")


@register(DATASETS)
def mnist() -> Dataset:
    """70,000 handwritten digits, ten classes."""
    return _load("mnist")


@register(DATASETS)
def kmnist() -> Dataset:
    """70,000 cursive Japanese characters, ten classes (https://arxiv.org/abs/1812.01718)."""
    return _load("kmnist")


@register(DATASETS)
def emnist_letters() -> Dataset:
    """145,600 handwritten letters, classes 1 to 26 (https://arxiv.org/abs/1702.05373)."""
    # Its publisher stores images column by column, unlike MNIST.
    return _load("emnist_letters", by_column=True)


def _load(name: str, *, by_column: bool = False) -> Dataset:
    require([name])
    files, folder = CATALOGUE[name].files, Path(locate(name).where)
    assert files is not None
    arrays = [_read(name, folder, file, shape) for file, shape in files.shapes.items()]
    train, test = (
        _samples(images.swapaxes(1, 2) if by_column else images, labels)
        for images, labels in (arrays[:2], arrays[2:])
    )
    return Dataset(train, test)


def _read(name: str, folder: Path, file: str, shape: tuple[int, ...]) -> np.ndarray:
    path = find_file(folder, file)
    assert path is not None
    try:
        return read_idx(path, shape)
    except InputError as error:
        raise InputError(f"{error}; get it again: nervecode data fetch {name}") from None


def _samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    inputs = torch.from_numpy(images.astype(np.float32)).unsqueeze(1).div_(255)
    return Samples(inputs, torch.from_numpy(labels.astype(np.int64)))
