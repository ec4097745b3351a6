"""UCI tables as the R package mlbench carries them (Debian's r-cran-mlbench), or as UCI does."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.kinds import Installed
from nervecode.lab.data.locate import locate, plain_folder, require
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.uci_files import read_uci

# The class in R's table, and what is left out of it: the number of a vowel's speaker.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "letter": ("lettr",),
    "satellite": ("classes",),
    "shuttle": ("Class",),
    "vehicle": ("Class",),
    "vowel": ("Class", "V1"),
}


def mlbench_set(name: str) -> Dataset:
    """All features as float32; the classes have the order of R's levels.

    Raises:
        InputError: the table is not here, or no readable one.
    """
    require([name])
    installed = CATALOGUE[name].installed
    assert installed is not None
    if folder := plain_folder(name):
        inputs, labels, classes = read_uci(name, [folder / file for file in installed.plain])
    else:
        inputs, labels, classes = _read_r(name, installed)
    return Dataset(Samples(torch.tensor(inputs), torch.tensor(labels)), classes=classes)


def _read_r(name: str, installed: Installed) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """((N, D) float32 features, (N,) int64 labels, names of the classes) of R's table."""
    path = Path(locate(name).where) / installed.holds
    import rdata

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the texts are ASCII, as it takes them
            table = rdata.read_rda(path)[path.stem]
        levels = table[COLUMNS[name][0]].cat
        inputs = table.drop(columns=list(COLUMNS[name])).to_numpy(np.float32)
        return inputs, levels.codes.to_numpy(np.int64), tuple(map(str, levels.categories))
    except Exception as error:  # rdata raises errors of many kinds
        raise InputError(
            f"{path}: not a readable table ({error}); get it again: "
            f"apt install --reinstall {installed.package}"
        ) from None
