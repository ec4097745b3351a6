"""Rounding: columns whose numbers differ in a file, and are one as float32."""

from __future__ import annotations

import numpy as np

MAX_MERGED = 0.01  # of the neighbours that differ


def merged_columns(exact: np.ndarray) -> list[str]:
    """The columns of vectors (N, D), or channels of series (N, C, T), that rounding merges.

    Neighbours are compared, in a column from row to row, in a channel from step to step: a share
    of those that differ no longer do as float32, such as times in milliseconds since 1970.
    """
    if (exact.dtype.kind != "f" and exact.itemsize < 4) or exact.dtype in (np.float16, np.float32):
        return []  # float32 holds them all
    if exact.ndim == 3:
        exact = np.moveaxis(exact, 2, 0)
    with np.errstate(over="ignore"):
        rounded = exact.astype(np.float32)
    differ = exact[1:] != exact[:-1]
    merged = differ & (rounded[1:] == rounded[:-1])
    differ, merged = (pairs.reshape(-1, exact.shape[-1]).sum(0) for pairs in (differ, merged))
    what = "column" if exact.ndim == 2 else "channel"
    return [f"{what} {n}" for n in np.flatnonzero(merged > MAX_MERGED * differ)]
