"""Arrays in files: `.npz` by the names within, `.npy` mapped, with its companions beside it.

What an `.npz` file holds under a name, an `.npy` file has in a file of that name: `y` is `y.npy`.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError, did_you_mean
from nervecode.files import absent, check_archive, suffix_of
from nervecode.lab.data.by_path.memory import check_size
from nervecode.lab.data.by_path.rounding import merged_columns
from nervecode.lab.data.images import doubts
from nervecode.lab.data.seen import Seen

INPUTS = ("x", "inputs")  # names of the inputs, the first one first
BLOCK_BYTES = 64 << 20
SMALLER = "pictures as uint8"
PIXELS = "allowed in pictures: 0 to 1, or uint8; the network standardises them itself"


def inputs_array(path: Path) -> np.ndarray:
    """The inputs in a file: of `.npz`, `x`, `inputs` or the only array.

    Raises:
        InputError: a file that is absent or no array file, or arrays of other names.
    """
    if suffix_of(path) == ".npy":
        return mapped_array(path)
    names = _names(path)
    chosen = [name for name in INPUTS if name in names] or (names if len(names) == 1 else [])
    if not chosen:
        raise InputError(
            f"{path}: found arrays {', '.join(names) or '(none)'}; "
            f"allowed: one array, or one named {' or '.join(map(repr, INPUTS))}"
        )
    return _member(path, chosen[0])


def mapped_array(path: Path, *, writable: bool = True) -> np.ndarray:
    """The array of an `.npy` file, mapped; the file stays as it is.

    Args:
        path: the file.
        writable: as a tensor over it must be: what is written is copied. A large file may be too
            large for it.

    Raises:
        InputError: a file that is absent, or no array of numbers or texts.
    """
    with readable_array(path):
        with path.open("rb") as file:
            _check_header(file, str(path))
        mode: Literal["c", "r"] = "c" if writable else "r"  # c: copy on write
        array: np.ndarray = np.load(path, mmap_mode=mode, allow_pickle=False)
        if not isinstance(array, np.memmap):
            raise ValueError("it is no array")
        return array.view(np.ndarray)


def column_array(path: Path, name: str, *, key: str) -> np.ndarray:
    """(N,) values beside the inputs, such as labels.

    Raises:
        InputError: there is no such array, or one of another shape.
    """
    if suffix_of(path) == ".npy":
        file = path.with_name(f"{name}.npy")
        if not file.is_file():
            raise InputError(f"{key}: {file}: no such file, allowed: an array beside {path.name}")
        source, values = str(file), np.array(mapped_array(file))
    else:
        names = _names(path)
        if name not in names:
            raise InputError(f"{key}: {path} has no array {name!r}; {did_you_mean(name, names)}")
        source, values = f"{path}: {name}", _member(path, name)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.ndim != 1 or values.dtype.kind not in "iuUSbf":
        raise InputError(
            f"{source}: found {values.dtype} of shape {values.shape}, allowed: numbers or texts of "
            "shape (N,)"
        )
    return _decoded(values, source) if values.dtype.kind == "S" else values


def _decoded(values: np.ndarray, source: str) -> np.ndarray:
    try:
        return np.char.decode(values, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{source}: found {error.object!r}, allowed: texts, or bytes of them in UTF-8; "
            'np.char.decode(y, "latin-1") makes texts of older ones'
        ) from None


def as_inputs(array: np.ndarray, source: str, *, series: bool, seen: Seen) -> Tensor:
    """Inputs in the shape of samples: (N, D), (N, C, H, W), or for series (N, C, T).

    Pictures of bytes stay as they are; what is float32 already is not copied. `seen` is told what
    becomes one by rounding, and of pictures that may be others.

    Raises:
        InputError: another shape or type, values that are not finite, or pictures of floats that
            leave [0, 1].
    """
    _check_shape(array, source, series=series)
    pictures = not series and array.ndim >= 3
    kinds = "float or uint8" if pictures else "numbers"
    if array.dtype.kind not in "fiu" or (
        pictures and array.dtype.kind in "iu" and array.itemsize > 1
    ):
        raise InputError(f"{source}: found {array.dtype} values, allowed: {kinds}")
    as_bytes = pictures and array.dtype == np.uint8
    check_size(source, array.size * (1 if as_bytes else 4), instead=SMALLER)
    if array.ndim == (2 if series else 3):
        array = array[:, None]
    if pictures:
        seen.doubts += doubts(first_block(array))
    if as_bytes or array.dtype == np.float32:
        values = array
        for start, block in _blocks(array):
            _check_values(block, block, source, start, pictures=pictures)
    else:
        values = np.empty(array.shape, np.float32)
        if not pictures:
            seen.rounded += merged_columns(first_block(array))
        for start, block in _blocks(array):
            with np.errstate(over="ignore"):
                values[start : start + len(block)] = block
            rounded = values[start : start + len(block)]
            _check_values(rounded, block, source, start, pictures=pictures)
    return torch.from_numpy(values)


def _check_shape(array: np.ndarray, source: str, *, series: bool) -> None:
    allowed = (
        "(N, C, T), or (N, T) of one channel"
        if series
        else "(N, D) of vectors, (N, H, W) of grey pictures, or (N, C, H, W)"
    )
    if array.ndim not in ((2, 3) if series else (2, 3, 4)) or not array.size:
        raise InputError(f"{source}: found shape {array.shape}, allowed: {allowed}")
    if array.ndim == 4 and array.shape[3] in (1, 3, 4) and array.shape[1] not in (1, 3, 4):
        raise InputError(
            f"{source}: found shape {array.shape}, allowed: {allowed}; "
            "x.transpose(0, 3, 1, 2) brings the channels to the front"
        )


def _check_values(
    block: np.ndarray, given: np.ndarray, source: str, start: int, *, pictures: bool
) -> None:
    if block.dtype == np.uint8:
        return
    wrong = ~np.isfinite(block)
    if wrong.any():
        row, *place = map(int, np.argwhere(wrong)[0])
        column = place[0] if len(place) == 1 else tuple(place)
        raise InputError(
            f"{source}: row {start + row}, column {column}: found {given[(row, *place)]}, allowed: "
            "finite float32 values"
        )
    if pictures and (block.min() < 0 or block.max() > 1):
        row = int(np.argwhere((block < 0) | (block > 1))[0][0])
        raise InputError(
            f"{source}: row {start + row}: found values from {block[row].min():.3g} to "
            f"{block[row].max():.3g}, {PIXELS}"
        )


def first_block(array: np.ndarray) -> np.ndarray:
    """So many rows of an array as are read at a time."""
    return next(_blocks(array))[1]


def _blocks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    rows = max(1, BLOCK_BYTES // max(1, array[0].size * 8))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def _names(path: Path) -> list[str]:
    if suffix_of(path) != ".npz":
        raise InputError(f"{path}: found {path.suffix!r}, allowed: .npz, .npy")
    with readable_array(path):
        check_archive(path)
        with np.load(path, allow_pickle=False) as archive:
            return list(archive.files)


def _member(path: Path, name: str) -> np.ndarray:
    with readable_array(path):
        with zipfile.ZipFile(path) as archive:
            if f"{name}.npy" not in archive.namelist():
                raise ValueError("its member is no array")
            size = archive.getinfo(f"{name}.npy").file_size
            check_size(f"{path}: {name}", size, instead=SMALLER)
            with archive.open(f"{name}.npy") as file:
                _check_header(file, f"{path}: {name}")
        with np.load(path, allow_pickle=False) as arrays, warnings.catch_warnings():
            array: np.ndarray = arrays[name]
            return array


def _check_header(file: IO[bytes], source: str) -> None:
    """Refuse what is no array, or one of Python objects, by its header: neither is unpickled."""
    if file.read(6) != b"\x93NUMPY":
        raise ValueError("it does not begin as an .npy file does")
    file.seek(0)
    version = np.lib.format.read_magic(file)
    old = version == (1, 0)
    read = np.lib.format.read_array_header_1_0 if old else np.lib.format.read_array_header_2_0
    if read(file)[2].hasobject:
        raise InputError(
            f"{source}: found an object array, allowed: numbers or texts; rows of unequal length "
            "are cut or padded to one, texts become an array by astype(str)"
        )


@contextmanager
def readable_array(path: Path) -> Iterator[None]:
    """Turn the errors of NumPy's readers into one sentence.

    Raises:
        InputError: the file is absent, or no array file.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(absent(path)) from None
    except Exception as error:  # zipfile, zlib and numpy each raise errors of their own
        raise InputError(f"{path}: not a readable array file ({error})") from None
