"""ArrayInputs: the rows of an array, in memory or mapped from an `.npy` file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.by_path.array_files import PIXELS, first_block, mapped_array
from nervecode.lab.data.by_path.rounding import merged_columns
from nervecode.lab.data.images import doubts
from nervecode.lab.data.samples import EVAL_BATCH, Shape
from nervecode.lab.data.seen import Seen
from nervecode.lab.inference.source import SKIPS, Inputs, Source

SAMPLED = 64


class ArrayInputs(Source):
    """The rows of an array; each batch is a unit.

    `bad` has rows of NaN whose reading failed, each with the reason.
    """

    def __init__(
        self,
        name: str,
        array: np.ndarray,
        shape: Shape,
        *,
        skip_bad: bool = False,
        bad: Mapping[int, str] | None = None,
    ) -> None:
        allowed = (shape, shape[1:]) if shape[0] == 1 else (shape,)  # (N, H, W): of one channel
        if array.ndim == 0 or array.shape[1:] not in allowed or not len(array):
            text = ", ".join(map(str, shape))
            raise InputError(f"{name}: found shape {array.shape}, allowed: (N, {text}), N >= 1")
        pictures = len(shape) == 3
        if array.dtype.kind not in "fiu":
            kinds = "float or uint8" if pictures else "numbers"
            raise InputError(f"{name}: found {array.dtype} values, allowed: {kinds}")
        if pictures and array.dtype.kind in "iu" and array.dtype != np.uint8:
            raise InputError(
                f"{name}: found {array.dtype} pixels, allowed: float from 0 to 1, or uint8 from 0 "
                'to 255; array.astype("uint8") makes these'
            )
        self.name, self.shape, self.count, self.skip_bad = name, shape, len(array), skip_bad
        self.bad = bad or {}
        self.units = -(-self.count // EVAL_BATCH)
        self.identity = {"count": self.count, "values": _fingerprint(array)}
        self._array: np.ndarray | None = array
        block = first_block(array)
        seen = Seen(doubts=doubts(block)) if pictures else Seen(rounded=merged_columns(block))
        self.remarks = tuple(seen.remarks(name))

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows, as they are stored."""
        assert self._array is not None
        return self._array[start:stop]

    def not_finite(self, row: int, entry: int, value: float) -> str:
        """Why a row is bad, by the place of a number in it."""
        axes = tuple(map(int, np.unravel_index(entry, self.shape)))
        column = axes[0] if len(axes) == 1 else axes
        place = f"{self.name}: row {row}, column {column}"
        return f"{place}: found {value}, allowed: finite float32 values"

    def read(self, unit: int) -> Iterator[Inputs]:
        """The finite rows of one batch, named by their number; pictures of bytes become [0, 1]."""
        start = unit * EVAL_BATCH
        array = self.rows(start, min(start + EVAL_BATCH, self.count))
        with np.errstate(over="ignore"):
            values = torch.tensor(array.astype(np.float32)).view(-1, *self.shape)
        if array.dtype == np.uint8 and len(self.shape) == 3:
            values = values / 255
        wrong = self._faults(values, array, start)
        bad = list(wrong.values())
        if bad and not self.skip_bad:
            raise InputError(bad[0] + SKIPS)
        right = [row for row in range(len(values)) if row not in wrong]
        yield Inputs(values[right], [str(start + row) for row in right], tuple(bad))

    def _faults(self, values: Tensor, array: np.ndarray, start: int) -> dict[int, str]:
        """Row -> why it cannot be scored: values that are not finite, pixels that leave [0, 1]."""
        rows = values.flatten(1)
        finite = rows.isfinite()
        right = finite.all(1)
        if values.ndim == 4:
            right &= ((rows >= 0) & (rows <= 1)).all(1)
        faults = {}
        for row in (~right).nonzero().flatten().tolist():
            if start + row in self.bad:
                faults[row] = self.bad[start + row]
            elif finite[row].all():
                held = f"from {rows[row].min():.3g} to {rows[row].max():.3g}"
                faults[row] = f"{self.name}: row {start + row} holds values {held}, {PIXELS}"
            else:
                entry = int(finite[row].int().argmin())
                faults[row] = self.not_finite(start + row, entry, array[row].flat[entry])
        return faults


class MappedInputs(ArrayInputs):
    """The rows of an `.npy` file."""

    def __init__(
        self,
        path: Path,
        shape: Shape,
        *,
        skip_bad: bool = False,
        bad: Mapping[int, str] | None = None,
    ) -> None:
        self.path = path
        super().__init__(str(path), self._map(), shape, skip_bad=skip_bad, bad=bad)
        self._array = None

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Some rows; mapped anew, since what was touched counts as memory until it is unmapped."""
        return np.array(self._map()[start:stop])

    def _map(self) -> np.ndarray:
        return mapped_array(self.path, writable=False)


def _fingerprint(array: np.ndarray) -> str:
    """SHA-256 of shape, type and some rows, since an array may be too large to be read for it."""
    digest = hashlib.sha256(str((array.shape, array.dtype.str)).encode())
    for row in np.linspace(0, len(array) - 1, SAMPLED).astype(np.int64):
        digest.update(np.ascontiguousarray(array[row]).tobytes())
    return digest.hexdigest()
