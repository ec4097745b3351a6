"""Kept: arrays that take long to derive from files, made once and kept in the data folder."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import numpy as np

from nervecode.errors import ArtifactError, NervecodeError
from nervecode.files import read_npz, write_npz
from nervecode.lab.data.locate import data_root


def kept(name: str, fingerprint: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """The array that is kept under a name; one that is absent or damaged is made, and kept.

    Where the data folder cannot be written, or there is none, it is made each time.

    Args:
        name: a path below the data folder, without its suffix.
        fingerprint: SHA-256 of all that the array depends on.
        make: derives it.
    """
    root = data_root()
    if root is None:
        return make()
    path = root / f"{name}-{fingerprint[:16]}.npz"
    try:
        (array,) = read_npz(path).values()
        return array
    except (ArtifactError, ValueError):  # none yet, or damaged
        array = make()
    with suppress(NervecodeError):  # a folder of somebody else's, or a full disk
        write_npz(path, {"array": array})
    return array
