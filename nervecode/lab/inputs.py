"""Inputs to score: an image folder, an array file, tar shards or a data set, a batch at a time."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.data import DATASETS, IMAGE_SETS, OUTLIERS, as_float
from nervecode.lab.data.load import load_outside
from nervecode.lab.features import EVAL_BATCH
from nervecode.lab.files import check_archive

Shape = tuple[int, ...]
SAMPLED = 64


@dataclass(frozen=True)
class Inputs:
    """(N, *shape) float inputs, a name for each, and the files that were skipped."""

    inputs: Tensor
    ids: list[str]
    skipped: tuple[str, ...] = ()


class Source(ABC):
    """Inputs in `units`: pieces of a fixed order that are read alone, and never cut.

    Whoever reads a range of units gets the same batches as one who reads all, and so the same
    bits from the network. Memory does not grow with their number.

    Attributes:
        units: how many there are.
        identity: plain values that tell these inputs from others, wherever they lie.
    """

    units: int
    identity: dict[str, Any]

    @abstractmethod
    def read(self, unit: int) -> Iterator[Inputs]:
        """The batches of a unit, each of at most `EVAL_BATCH` inputs.

        Raises:
            InputError: something unreadable, of a wrong shape, or not finite.
        """


def open_inputs(source: str, shape: Shape, *, skip_bad: bool = False, workers: int = 1) -> Source:
    """Inputs in the shape that a model takes, to be read a batch at a time.

    Args:
        source: a folder of images, an image, an `.npy` or `.npz` file, tar files in WebDataset's
            layout and notation (`x-{000..099}.tar`), or a data set's name. An `.npy` file is
            mapped, an `.npz` file or a data set is held in memory.
        shape: (C, H, W) or (D,) of one input. Images are resized; arrays must fit.
        skip_bad: leave unreadable images out, rather than refuse all.
        workers: threads that decode images.

    Raises:
        InputError: nothing there, a wrong shape, or an unknown name.
        MissingExtraError: tar files, without the extra `webdataset`.
    """
    from nervecode.lab.image_inputs import ImageInputs
    from nervecode.lab.tar_inputs import TarInputs

    path = Path(source)
    if source.endswith(".tar"):
        return TarInputs(source, shape, skip_bad=skip_bad, workers=workers)
    if path.is_dir() or (path.is_file() and path.suffix not in (".npy", ".npz")):
        return ImageInputs(path, shape, skip_bad=skip_bad, workers=workers)
    if path.suffix == ".npy":
        return MappedInputs(path, shape)
    if path.suffix == ".npz":
        return ArrayInputs(source, _unpack(path), shape)
    return _named(source, shape)


class ArrayInputs(Source):
    """The rows of an array; each batch is a unit."""

    def __init__(self, name: str, array: np.ndarray, shape: Shape) -> None:
        allowed = (shape, shape[1:]) if shape[0] == 1 else (shape,)  # (N, H, W): of one channel
        if array.ndim == 0 or array.shape[1:] not in allowed or not len(array):
            text = ", ".join(map(str, shape))
            raise InputError(f"{name}: found shape {array.shape}, allowed: (N, {text}), N >= 1")
        if array.dtype.kind not in "fiu":
            raise InputError(f"{name}: found {array.dtype} values, allowed: float or uint8")
        self.name, self.shape, self.count = name, shape, len(array)
        self.units = -(-self.count // EVAL_BATCH)
        self.identity = {"count": self.count, "values": _fingerprint(array)}
        self._array: np.ndarray | None = array

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows, as they are stored."""
        assert self._array is not None
        return self._array[start:stop]

    def read(self, unit: int) -> Iterator[Inputs]:
        """The rows of one batch, named by their number; bytes become [0, 1]."""
        start = unit * EVAL_BATCH
        array = self.rows(start, min(start + EVAL_BATCH, self.count))
        with np.errstate(over="ignore"):
            values = torch.tensor(array.astype(np.float32)).view(-1, *self.shape)
        if not values.isfinite().all():
            raise InputError(f"{self.name}: holds NaN or infinity, allowed: finite float32 values")
        if array.dtype == np.uint8:
            values = values / 255
        yield Inputs(values, [str(start + i) for i in range(len(array))])


class MappedInputs(ArrayInputs):
    """The rows of an `.npy` file."""

    def __init__(self, path: Path, shape: Shape) -> None:
        self.path = path
        super().__init__(str(path), self._map(), shape)
        self._array = None

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows; mapped anew, since what was touched counts as memory until it is unmapped."""
        return np.array(self._map()[start:stop])

    def _map(self) -> np.ndarray:
        try:
            found: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if not isinstance(found, np.memmap):
                raise ValueError("it is no array")
            return found
        except FileNotFoundError:
            raise InputError(f"{self.path}: no such file") from None
        except Exception as error:  # numpy raises errors of many kinds
            raise InputError(f"{self.path}: not a readable array file ({error})") from None


def _unpack(path: Path) -> np.ndarray:
    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as found:
            if len(found.files) != 1 and "inputs" not in found.files:
                raise InputError(
                    f"{path}: found arrays {', '.join(found.files) or '(none)'}; "
                    "allowed: one array, or one named 'inputs'"
                )
            array = found["inputs" if "inputs" in found.files else found.files[0]]
            if not isinstance(array, np.ndarray):
                raise ValueError("its member is no array")
            return array
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise errors of their own
        raise InputError(f"{path}: not a readable array file ({error})") from None


def _named(source: str, shape: Shape) -> ArrayInputs:
    names = [*DATASETS, *IMAGE_SETS, *OUTLIERS]
    if source.partition(":")[0] not in names:
        raise InputError(
            f"--input {source}: neither a path nor a data set; {did_you_mean(source, names)}"
        )
    generator = torch.Generator().manual_seed(0)
    if source in OUTLIERS:
        inputs = OUTLIERS[source](shape, generator)
    else:
        inputs = as_float(load_outside(source, shape, generator=generator).inputs)
    return ArrayInputs(source, inputs.numpy(), shape)


def _fingerprint(array: np.ndarray) -> str:
    """SHA-256 of shape, type and some rows, since an array may be too large to be read for it."""
    digest = hashlib.sha256(str((array.shape, array.dtype.str)).encode())
    for row in np.linspace(0, len(array) - 1, SAMPLED).astype(np.int64):
        digest.update(np.ascontiguousarray(array[row]).tobytes())
    return digest.hexdigest()
