"""IDX files, the format of MNIST: a magic number, the shape, and the bytes; plain or gzipped.

The format is that of https://web.archive.org/web/20160828233817/http://yann.lecun.com/exdb/mnist/
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

from nervecode.errors import InputError
from nervecode.lab.data.catalogue import find_file

UNSIGNED_BYTE = 0x08


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
    found = {}
    for name, path in paths.items():
        assert path is not None
        content = _content(path)
        _check(path, content, shapes[name])
        found[name] = Checked(path, hashlib.sha256(content).hexdigest())
    return found


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
    found = struct.unpack(f">{len(shape)}I", content[4:header])
    if found != shape:
        raise InputError(f"{path}: found shape {found}, allowed: {shape}")
    size = header + math.prod(shape)
    if len(content) != size:
        what = "is cut short" if len(content) < size else "is too long"
        raise InputError(f"{path}: {what} (found {len(content)} bytes, allowed: {size})")


def _header_size(shape: tuple[int, ...]) -> int:
    return 4 + 4 * len(shape)
