"""Archives in a publisher's format, small and made up: for tests of readers, never for figures."""

from __future__ import annotations

import gzip
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nervecode.lab.data import locate as locating
from nervecode.lab.data.catalogue import CATALOGUE

TRAIN, TEST = 30, 12


def idx_bytes(array: np.ndarray) -> bytes:
    """uint8 values in the IDX format: 0, 0, type 8, dimensions, sizes, values; big-endian."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def shrink(monkeypatch: pytest.MonkeyPatch, name: str) -> dict[str, tuple[int, ...]]:
    """Let the catalogue expect 30 training and 12 test samples, and no published content."""
    entry = CATALOGUE[name]
    assert entry.files is not None
    counts = {max(s[0] for s in entry.files.shapes.values()): TRAIN}
    shapes = {file: (counts.get(shape[0], TEST), *shape[1:])
              for file, shape in entry.files.shapes.items()}  # fmt: skip
    files = replace(entry.files, shapes=shapes, sha256={}, system=())
    monkeypatch.setitem(CATALOGUE, name, replace(entry, files=files))
    return shapes


def arrays(shapes: dict[str, tuple[int, ...]], *, classes: int = 3) -> dict[str, np.ndarray]:
    """Random images, and labels that go round."""
    random = np.random.default_rng(0)
    return {
        file: random.integers(0, 256, shape, dtype=np.uint8)
        if len(shape) == 3
        else (np.arange(shape[0]) % classes).astype(np.uint8)
        for file, shape in shapes.items()
    }


def write(folder: Path, made: dict[str, np.ndarray], *, gzipped: bool) -> Path:
    """The files of a set in a folder, plain or gzipped."""
    folder.mkdir(parents=True, exist_ok=True)
    for file, array in made.items():
        content = idx_bytes(array)
        if gzipped:
            (folder / f"{file}.gz").write_bytes(gzip.compress(content, 1))
        else:
            (folder / file).write_bytes(content)
    return folder


def own_root(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    """A data folder of the test's own."""
    monkeypatch.setenv(locating.VARIABLE, str(folder))
    return folder
