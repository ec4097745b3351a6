"""Series that the wheel of aeon carries; its files are read where they lie, nothing is imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.by_path.series_files import read_ts
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.locate import locate, require
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.wheels import WHEELS


def aeon_set(name: str) -> Dataset:
    """Both published parts, of one length each."""
    require([name])
    parts = [_part(Path(locate(name).where) / file) for file in WHEELS[name].files]
    names = sorted({label for _, labels in parts for label in labels.tolist()}, key=_order)
    train, test = (
        Samples(
            torch.from_numpy(inputs),
            torch.tensor([names.index(label) for label in labels.tolist()]),
        )
        for inputs, labels in parts
    )
    return Dataset(train, test, classes=tuple(names))


def _part(path: Path) -> tuple[np.ndarray, np.ndarray]:
    inputs, labels = read_ts(path)
    if labels is None:
        raise InputError(f"{path}: has no classes, allowed: a line @classLabel true")
    return inputs, labels


def _order(name: str) -> tuple[float, str]:
    """Numbers in their order, before texts."""
    return (float(name), "") if name.isdecimal() else (float("inf"), name)
