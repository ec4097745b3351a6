"""Files of scored inputs: `.csv`, `.jsonl` or `.npz`, written in memory that does not grow."""

from __future__ import annotations

import csv
import io
import json
import math
import shutil
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from nervecode.files import check_new, replacing
from nervecode.lab.inference.scored import Scored

OUTPUT_SUFFIXES = (".csv", ".jsonl", ".npz")
BLOCK = 1 << 20
# Field of `Scored` -> its name in an `.npz` file, and its type; names are as wide as they must be.
MEMBERS = {
    "ids": ("sample_ids", np.dtype(np.str_)),
    "by_layer": ("surprise", np.dtype(np.float32)),
    "surprise": ("score", np.dtype(np.float32)),
    "percentile": ("percentile", np.dtype(np.float64)),
    "p_value": ("p_value", np.dtype(np.float64)),
    "flag": ("flag", np.dtype(np.bool_)),
    "prediction": ("predictions", np.dtype(np.int64)),
    "pooled": ("pooled", np.dtype(np.bool_)),
}
OPTIONAL = ("flag", "pooled")

Member = tuple[str, dict[str, Any], Iterable[bytes]]  # name, header, and the bytes in parts


def check_output(path: Path, *, force: bool = False) -> None:
    """Refuse an output that cannot or must not be written, before any work is done."""
    check_new(path, OUTPUT_SUFFIXES, what="--output", force=force)


def write_scored(
    chunks: Iterable[Scored],
    path: Path,
    *,
    extra: dict[str, np.ndarray] | None = None,
    force: bool = False,
) -> None:
    r"""Write by the suffix of the path; how the rows are cut into chunks leaves no trace.

    Until the last row is there they lie in files without a name, which go when the process does.
    Texts are UTF-8: a file name that is not has its bytes escaped, as `\udce9`.

    Args:
        chunks: the rows, in order.
        path: where to.
        extra: further members of an `.npz` file.
        force: replace a file that exists.

    Raises:
        InputError: an output that cannot or must not be written.
    """
    check_output(path, force=force)
    if path.suffix == ".npz":
        _write_npz(chunks, path, extra or {})
        return
    with replacing(path) as temporary, TemporaryFile(dir=path.parent) as unnamed:
        text = io.TextIOWrapper(unnamed, "utf-8", errors="backslashreplace", newline="")
        (_write_csv if path.suffix == ".csv" else _write_jsonl)(chunks, text)
        text.detach().seek(0)
        with temporary.open("wb") as file:
            shutil.copyfileobj(unnamed, file, BLOCK)


def _write_csv(chunks: Iterable[Scored], file: IO[str]) -> None:
    writer = csv.writer(file, lineterminator="\n")
    for number, chunk in enumerate(chunks):
        for index, row in enumerate(chunk.rows()):
            if number == index == 0:
                writer.writerow(row)
            writer.writerow(row.values())


def _write_jsonl(chunks: Iterable[Scored], file: IO[str]) -> None:
    for chunk in chunks:
        file.writelines(_json(row) + "\n" for row in chunk.rows())


def _json(row: dict[str, Any]) -> str:
    try:
        return json.dumps(row, allow_nan=False)
    except ValueError:  # JSON has neither NaN nor infinity
        finite = {k: v for k, v in row.items() if not isinstance(v, float) or math.isfinite(v)}
        return json.dumps(dict.fromkeys(row) | finite)


def _write_npz(chunks: Iterable[Scored], path: Path, extra: dict[str, np.ndarray]) -> None:
    """The file that `numpy.savez_compressed` would write, had it all arrays in memory."""
    with replacing(path) as temporary, ColumnFiles.below(path.parent) as columns:
        for chunk in chunks:
            columns.append(chunk)
        with zipfile.ZipFile(temporary, "w") as archive:
            for name, head, parts in [*map(_member, extra.items()), *columns.members()]:
                info = zipfile.ZipInfo(f"{name}.npy")  # one of its own has a fixed date
                info.compress_type = zipfile.ZIP_DEFLATED
                with archive.open(info, "w", force_zip64=True) as file:
                    npy.write_array_header_1_0(file, head)
                    for block in _blocks(parts):
                        file.write(block)


def _member(named: tuple[str, np.ndarray]) -> Member:
    name, array = named
    return name, _head(array.dtype, array.shape), [array.tobytes()]


def _head(dtype: np.dtype[Any], shape: tuple[int, ...]) -> dict[str, Any]:
    return {"descr": npy.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}


def _blocks(parts: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of one size: what is packed may depend on how it is handed over."""
    held = bytearray()
    for part in parts:
        held += part
        while len(held) >= BLOCK:
            yield bytes(held[:BLOCK])
            del held[:BLOCK]
    yield bytes(held)


class ColumnFiles:
    """Columns that grow on disk, each in a file without a name, until their length is known."""

    def __init__(self, files: dict[str, IO[bytes]]) -> None:
        self.files = files
        self.count, self.width = 0, 1
        self.layers: tuple[str, ...] = ()
        self.fields = set(MEMBERS)

    @classmethod
    @contextmanager
    def below(cls, folder: Path) -> Iterator[ColumnFiles]:
        """An empty one in a folder, gone after the block."""
        with ExitStack() as stack:
            yield cls({n: stack.enter_context(TemporaryFile(dir=folder)) for n in MEMBERS})

    def append(self, chunk: Scored) -> None:
        """Add rows."""
        for name, column in chunk.columns().items():
            if name == "ids":
                data = "\0".join([*column.tolist(), ""]).encode("utf-8", "surrogateescape")
            else:
                data = column.astype(MEMBERS[name][1], copy=False).tobytes()
            self.files[name].write(data)
        self.layers, self.fields = chunk.layers, set(chunk.columns())
        self.count += len(chunk)
        self.width = max(self.width, chunk.ids.dtype.itemsize // 4)

    def members(self) -> Iterator[Member]:
        """The columns, and the names of the layers, as members of an archive."""
        yield _member(("layer_names", np.array(self.layers, dtype=np.str_)))
        for field, (name, dtype) in MEMBERS.items():
            if field not in self.fields:
                continue
            dtype = np.dtype(f"<U{self.width}") if field == "ids" else dtype
            shape = (self.count, len(self.layers)) if field == "by_layer" else (self.count,)
            yield name, _head(dtype, shape), self.read(field)

    def read(self, name: str) -> Iterator[bytes]:
        """The bytes of a column as an array holds them."""
        file, rest = self.files[name], b""
        file.seek(0)
        while block := file.read(BLOCK):
            if name == "ids":
                *names, rest = (rest + block).split(b"\0")
                texts = [text.decode("utf-8", "surrogateescape") for text in names]
                block = np.array(texts, dtype=f"<U{self.width}").tobytes()
            yield block
