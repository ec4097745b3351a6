"""UCI tables as the R package mlbench carries them, which Debian installs as r-cran-mlbench."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.catalogue import CATALOGUE, locate, require
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.samples import Samples


def letter() -> Dataset:
    """20,000 printed capitals in 20 fonts, 16 features (Frey and Slate 1991)."""
    return _load("letter", target="lettr")


def satellite() -> Dataset:
    """6,435 neighbourhoods of 3x3 pixels in four bands, six kinds of soil (Srinivasan 1993)."""
    return _load("satellite", target="classes")


def shuttle() -> Dataset:
    """58,000 states of a Space Shuttle's radiators, 9 features, seven classes (Catlett)."""
    return _load("shuttle", target="Class")


def vehicle() -> Dataset:
    """846 silhouettes of four vehicles, 18 features (Siebert 1987)."""
    return _load("vehicle", target="Class")


def vowel() -> Dataset:
    """990 vowels, 9 features without the number of the speaker, eleven classes (Deterding 1989)."""
    return _load("vowel", target="Class", drop=("V1",))


def _load(name: str, *, target: str, drop: tuple[str, ...] = ()) -> Dataset:
    """All columns but the target as float32; the classes have the order of R's levels."""
    require([name])
    installed = CATALOGUE[name].installed
    assert installed is not None
    path = Path(locate(name).where) / installed.holds
    import rdata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the texts are ASCII, as it takes them
            table = rdata.read_rda(path)[path.stem]
        classes = table[target].cat
        inputs = table.drop(columns=[target, *drop]).to_numpy(np.float32)
        labels = classes.codes.to_numpy(np.int64)
    except Exception as error:  # rdata raises errors of many kinds
        raise InputError(
            f"{path}: not a readable table ({error}); get it again: "
            f"apt install --reinstall {installed.package}"
        ) from None
    samples = Samples(torch.tensor(inputs), torch.tensor(labels))
    return Dataset(samples, classes=tuple(map(str, classes.categories)))
