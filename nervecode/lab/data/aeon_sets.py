"""Series that the wheel of aeon carries; its files are read where they lie, nothing is imported."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.catalogue import locate, require
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.series_files import read_ts
from nervecode.lab.data.wheels import WHEELS


def japanese_vowels() -> Dataset:
    """640 utterances of nine speakers, 12 coefficients at 25 steps (Kudo et al. 1999)."""
    return _load("japanese_vowels")


def basic_motions() -> Dataset:
    """80 recordings of a smart watch, 6 channels of 100 steps, four motions."""
    return _load("basic_motions")


def osu_leaf() -> Dataset:
    """442 outlines of leaves, 427 steps, six trees (Gandhi 2002)."""
    return _load("osu_leaf")


def acsf1() -> Dataset:
    """200 days of power consumption, 1,460 steps, ten kinds of appliance (Gisler et al. 2013)."""
    return _load("acsf1")


def arrow_head() -> Dataset:
    """211 outlines of projectile points, 251 steps, three kinds (Ye and Keogh 2009)."""
    return _load("arrow_head")


def pickup_gesture() -> Dataset:
    """100 gestures of a Wiimote, 361 steps, ten people (Guna et al. 2014)."""
    return _load("pickup_gesture")


def _load(name: str) -> Dataset:
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
