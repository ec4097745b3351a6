"""Labelled sets of small colour images that torchvision reads whole: CIFAR, SVHN, STL-10.

CIFAR's batches are pickles, and a pickle can run code when it is read. torchvision reads them
only after their MD5 sums are those of the published files; this package reads none itself.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.locate import locate, require
from nervecode.lab.data.samples import Samples


def load_arrays(name: str, folder: Path | None = None) -> Dataset:
    """A set from its folder, or from where it is on this machine.

    Raises:
        InputError: the set is absent, or a file of it is damaged.
    """
    from torchvision import datasets

    if folder is None:
        require([name])
        folder = Path(locate(name).where)
    # Within the function: tests give torchvision's classes other sums.
    readers: dict[str, tuple[Any, Any, Any]] = {
        "cifar10": (datasets.CIFAR10, {"train": True}, {"train": False}),
        "cifar100": (datasets.CIFAR100, {"train": True}, {"train": False}),
        "svhn": (datasets.SVHN, {"split": "train"}, {"split": "test"}),
        "stl10": (datasets.STL10, {"split": "train"}, {"split": "test"}),
    }
    reader, *parts = readers[name]
    try:
        train, test = (_samples(reader(str(folder), **part)) for part in parts)
    except Exception as error:  # torchvision, pickle and scipy each raise errors of their own
        reason = str(error).split(". You can")[0]
        raise InputError(
            f"{folder}: {name} is damaged ({reason}); get it again: nervecode data fetch {name}"
        ) from None
    return Dataset(train, test)


def _samples(dataset: Any) -> Samples:
    """What torchvision has read, as (N, 3, H, W) uint8."""
    images = dataset.data
    if images.shape[-1] == 3:
        images = images.transpose(0, 3, 1, 2)
    labels = dataset.targets if hasattr(dataset, "targets") else dataset.labels
    return Samples(
        torch.from_numpy(np.ascontiguousarray(images)),
        torch.from_numpy(np.asarray(labels, dtype=np.int64)),
    )
