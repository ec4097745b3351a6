"""Labelled sets of 28x28 grey images in IDX files; `nervecode data fetch` gets them.

IDX is the format of MNIST: a magic number, the shape, and the bytes; plain or gzipped
(https://web.archive.org/web/20160828233817/http://yann.lecun.com/exdb/mnist/).
"""

from __future__ import annotations

import gzip
import hashlib
import math
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.kinds import find_file
from nervecode.lab.data.locate import locate, require
from nervecode.lab.data.samples import Samples

UNSIGNED_BYTE = 0x08
BY_COLUMN = ("emnist_letters",)  # whose images are stored so, unlike those of MNIST


def idx_set(name: str) -> Dataset:
    """Both published parts.

    Raises:
        InputError: the set is absent, or a file of it is damaged.
    """
    require([name])
    files, folder = CATALOGUE[name].files, Path(locate(name).where)
    assert files is not None
    arrays = [_read(name, folder, file, shape) for file, shape in files.shapes.items()]
    train, test = (
        _samples(images.swapaxes(1, 2) if name in BY_COLUMN else images, labels)
        for images, labels in (arrays[:2], arrays[2:])
    )
    return Dataset(train, test)


def _read(name: str, folder: Path, file: str, shape: tuple[int, ...]) -> np.ndarray:
    path = find_file(folder, file)
    assert path is not None
    try:
        return read_idx(path, shape)
    except InputError as error:
        raise InputError(f"{error}; get it again: nervecode data fetch {name}") from None


def _samples(images: np.ndarray, labels: np.ndarray) -> Samples:
    inputs = torch.from_numpy(images.astype(np.float32)).unsqueeze(1).div_(255)
    return Samples(inputs, torch.from_numpy(labels.astype(np.int64)))


def read_idx(path: Path, shape: tuple[int, ...]) -> np.ndarray:
    """An IDX file of unsigned bytes.

    Args:
        path: the file, gzipped where its name ends with `.gz`.
        shape: the shape that it must have.

    Raises:
        InputError: it cannot be read, is no such file, has another shape, or is cut short.
    """
    content = _content(path)
    _check(path, content, shape)
    return np.frombuffer(content, np.uint8, offset=_header_size(shape)).reshape(shape)


@dataclass(frozen=True)
class Checked:
    """An IDX file that is whole, and the SHA-256 of its content, unpacked."""

    path: Path
    sha256: str


def check_folder(folder: Path, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Checked]:
    """The IDX files of a folder, each found and whole.

    Args:
        folder: where they are.
        shapes: name of each file, without `.gz` -> its shape.

    Raises:
        InputError: every file that is missing, or the first that is not what it should be.
    """
    paths = {name: find_file(folder, name) for name in shapes}
    absent = [name for name, path in paths.items() if path is None]
    if absent:
        raise InputError(f"{folder}: holds no {', '.join(absent)} (plain or .gz)")
    checked = {}
    for name, path in paths.items():
        assert path is not None
        content = _content(path)
        _check(path, content, shapes[name])
        checked[name] = Checked(path, hashlib.sha256(content).hexdigest())
    return checked


def _content(path: Path) -> bytes:
    try:
        if path.suffix == ".gz":
            with gzip.open(path) as file:
                return file.read()
        return path.read_bytes()
    except EOFError:
        raise InputError(f"{path}: is cut short (the gzip stream has no end)") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path}: is not a gzip file, or damaged ({error})") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from None


def _check(path: Path, content: bytes, shape: tuple[int, ...]) -> None:
    magic = struct.pack(">HBB", 0, UNSIGNED_BYTE, len(shape))
    if content[:4] != magic:
        raise InputError(
            f"{path}: found magic number {content[:4].hex() or '(nothing)'}, allowed: "
            f"{magic.hex()} (an IDX file of unsigned bytes with {len(shape)} dimensions)"
        )
    header = _header_size(shape)
    if len(content) < header:
        raise InputError(f"{path}: is cut short (found {len(content)} bytes)")
    written = struct.unpack(f">{len(shape)}I", content[4:header])
    if written != shape:
        raise InputError(f"{path}: found shape {written}, allowed: {shape}")
    size = header + math.prod(shape)
    if len(content) != size:
        what = "is cut short" if len(content) < size else "is too long"
        raise InputError(f"{path}: {what} (found {len(content)} bytes, allowed: {size})")


def _header_size(shape: tuple[int, ...]) -> int:
    return 4 + 4 * len(shape)
