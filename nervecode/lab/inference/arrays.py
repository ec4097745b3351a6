"""ArrayInputs: the rows of an array, in memory or mapped from an `.npy` file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.array_files import first_block, readable_array
from nervecode.lab.data.rounding import merged_columns
from nervecode.lab.data.samples import EVAL_BATCH, Shape
from nervecode.lab.data.seen import Seen
from nervecode.lab.inference.source import Inputs, Source

SAMPLED = 64


class ArrayInputs(Source):
    """The rows of an array; each batch is a unit."""

    def __init__(
        self, name: str, array: np.ndarray, shape: Shape, *, skip_bad: bool = False
    ) -> None:
        allowed = (shape, shape[1:]) if shape[0] == 1 else (shape,)  # (N, H, W): of one channel
        if array.ndim == 0 or array.shape[1:] not in allowed or not len(array):
            text = ", ".join(map(str, shape))
            raise InputError(f"{name}: found shape {array.shape}, allowed: (N, {text}), N >= 1")
        if array.dtype.kind not in "fiu":
            raise InputError(f"{name}: found {array.dtype} values, allowed: float or uint8")
        if len(shape) == 3 and array.dtype.kind in "iu" and array.dtype != np.uint8:
            raise InputError(
                f"{name}: found {array.dtype} pixels, allowed: float from 0 to 1, or uint8 from 0 "
                'to 255; array.astype("uint8") makes these'
            )
        self.name, self.shape, self.count, self.skip_bad = name, shape, len(array), skip_bad
        self.units = -(-self.count // EVAL_BATCH)
        self.identity = {"count": self.count, "values": _fingerprint(array)}
        self._array: np.ndarray | None = array
        if len(shape) < 3:
            self.remarks = tuple(Seen(rounded=merged_columns(first_block(array))).remarks(name))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows, as they are stored."""
        assert self._array is not None
        return self._array[start:stop]

    def read(self, unit: int) -> Iterator[Inputs]:
        """The finite rows of one batch, named by their number; pictures of bytes become [0, 1]."""
        start = unit * EVAL_BATCH
        array = self.rows(start, min(start + EVAL_BATCH, self.count))
        with np.errstate(over="ignore"):
            values = torch.tensor(array.astype(np.float32)).view(-1, *self.shape)
        if array.dtype == np.uint8 and len(self.shape) == 3:
            values = values / 255
        finite = values.isfinite().flatten(1).all(1)
        reason = "holds NaN or infinity, allowed: finite float32 values"
        rows = [start + i for i in (~finite).nonzero().flatten().tolist()]
        bad = [f"{self.name}: row {row} {reason}" for row in rows]
        if bad and not self.skip_bad:
            raise InputError(f"{bad[0]}; --skip-bad leaves it out")
        ids = [str(start + i) for i in finite.nonzero().flatten().tolist()]
        yield Inputs(values[finite], ids, tuple(bad))


class MappedInputs(ArrayInputs):
    """The rows of an `.npy` file."""

    def __init__(self, path: Path, shape: Shape, *, skip_bad: bool = False) -> None:
        self.path = path
        super().__init__(str(path), self._map(), shape, skip_bad=skip_bad)
        self._array = None

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows; mapped anew, since what was touched counts as memory until it is unmapped."""
        return np.array(self._map()[start:stop])

    def _map(self) -> np.ndarray:
        with readable_array(self.path):
            mapped: np.ndarray = np.load(self.path, mmap_mode="r", allow_pickle=False)
            if not isinstance(mapped, np.memmap):
                raise ValueError("it is no array")
            return mapped


def _fingerprint(array: np.ndarray) -> str:
    """SHA-256 of shape, type and some rows, since an array may be too large to be read for it."""
    digest = hashlib.sha256(str((array.shape, array.dtype.str)).encode())
    for row in np.linspace(0, len(array) - 1, SAMPLED).astype(np.int64):
        digest.update(np.ascontiguousarray(array[row]).tobytes())
    return digest.hexdigest()
