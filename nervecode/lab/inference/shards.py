"""Shards: scores of contiguous parts of some inputs, each in a file, and the whole made of them."""

from __future__ import annotations

import json
import math
import re
import shlex
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from nervecode.errors import ArtifactError, InputError, NervecodeError
from nervecode.lab.inference.output import MEMBERS, OPTIONAL
from nervecode.lab.inference.scored import Scored

FORMAT = "nervecode-shard-2"
PERCENT = "nervecode-shard-1"  # as FORMAT, with percentiles from 0 to 100 instead of fractions
HEADER = "shard"
SUFFIX = ".npz"
MAX_SMALL = 1 << 28  # bytes of the header, which may list a million tar files
READ = 1 << 17  # bytes of one column at a time
MAX_ROW = 1 << 20  # bytes of one column
SHOWN = 10


@dataclass(frozen=True)
class Shard:
    """Part `index` of `count`, counted from 1, and what its scores depend on.

    Attributes:
        units: how many units the inputs have (`nervecode.lab.inference.source.Source`).
        settings: plain values; equal for shards that belong together.
    """

    index: int
    count: int
    units: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/10` as part 3 of 10.

        Raises:
            InputError: something else, or a part that is none of them.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if match is None:
            raise InputError(f"--shard: found {text!r}, allowed: i/n as in 3/10, counted from 1")
        index, count = map(int, match.groups())
        if not 1 <= index <= count:
            raise InputError(
                f"--shard: found shard {index} of {count}, allowed: 1/{count} to {count}/{count}"
            )
        return cls(index, count)

    @property
    def range(self) -> range:
        """The units that are its own."""
        start, stop = ((i * self.units) // self.count for i in (self.index - 1, self.index))
        return range(start, stop)

    def path(self, output: Path) -> Path:
        """`scores.npz` as `scores.shard-03-of-10.npz`.

        Raises:
            InputError: an output that is no `.npz`.
        """
        if output.suffix != SUFFIX:
            raise InputError(
                f"--output {output}: found {output.suffix!r}, allowed for a shard: {SUFFIX!r}; "
                "`nervecode merge` writes .csv and .jsonl too"
            )
        index = f"{self.index:0{len(str(self.count))}}"
        return output.with_name(f"{output.stem}.shard-{index}-of-{self.count}{SUFFIX}")

    def paths(self, output: Path) -> str:
        """The pattern of every part's `path`, quoted for a shell but for its star."""
        before, after = f"{output.with_name(output.stem)}.shard-", f"-of-{self.count}{SUFFIX}"
        return f"{shlex.quote(before)}*{shlex.quote(after)}"

    def header(self) -> dict[str, np.ndarray]:
        """What the file says of itself, as a member of it."""
        return {HEADER: np.array(json.dumps({"format": FORMAT, **asdict(self)}))}

    def is_done(self, path: Path) -> bool:
        """Whether a file holds this very shard, whole."""
        if not path.is_file():
            return False
        try:
            return read_shard(path) == self and sum(map(len, read_chunks(path))) >= 0
        except ArtifactError:
            return False


def read_shard(path: Path) -> Shard:
    """What a file of a shard says of itself.

    Raises:
        ArtifactError: it is missing, damaged, or no shard.
    """
    with _opened(path) as archive:
        if f"{HEADER}.npy" not in archive.namelist():
            raise ValueError("it is no shard, as `nervecode score --shard` writes them")
        header = json.loads(str(_small(archive, HEADER)))
        if header.pop("format") not in (FORMAT, PERCENT):
            raise ValueError(f"allowed: format {FORMAT!r}")
        shard = Shard(**header)
        if not 1 <= shard.index <= shard.count or shard.units < 0:
            raise ValueError(f"its header is not that of a shard: {header}")
        return shard


def read_chunks(path: Path) -> Iterator[Scored]:
    """The rows of a shard, some at a time.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    with _opened(path) as archive, ExitStack() as stack:
        layers = tuple(_small(archive, "layer_names").tolist())
        scale = 100.0 if _format(archive) == PERCENT else 1.0
        columns = {
            field: _Column(stack.enter_context(archive.open(f"{name}.npy")), dtype)
            for field, (name, dtype) in MEMBERS.items()
            if field not in OPTIONAL or f"{name}.npy" in archive.namelist()
        }
        counts = {column.shape[0] for column in columns.values()}
        if len(counts) != 1 or columns["by_layer"].shape[1:] != (len(layers),):
            raise ValueError("its columns do not fit one another")
        rows = max(1, READ // max(column.row_bytes for column in columns.values()))
        for start in range(0, count := counts.pop(), rows):
            size = min(rows, count - start)
            taken = {name: column.take(size) for name, column in columns.items()}
            taken["percentile"] = taken["percentile"] / scale
            yield Scored(**taken, layers=layers)


def _is_in_per_cent(path: Path) -> bool:
    with _opened(path) as archive:
        return _format(archive) == PERCENT


def _format(archive: zipfile.ZipFile) -> str:
    return str(json.loads(str(_small(archive, HEADER)))["format"])


def check_shards(paths: Sequence[Path]) -> list[Path]:
    """The files of all parts of one scoring, in order, however they were given.

    Raises:
        InputError: shards that are missing, given twice, or of different scorings.
        ArtifactError: a file that is missing, damaged, or no shard.
    """
    by_index: dict[int, Path] = {}
    first = read_shard(paths[0])
    for path in paths:
        shard = read_shard(path)
        _check_same(paths[0], first, path, shard)
        if shard.index in by_index:
            twice = f"{by_index[shard.index]} and {path}"
            raise InputError(f"shard {shard.index} of {shard.count} is given twice: {twice}")
        by_index[shard.index] = path
    if older := [path for path in by_index.values() if _is_in_per_cent(path)]:
        warnings.warn(
            f"{older[0]}: of an earlier version, whose percentiles go from 0 to 100; "
            "they are read as fractions",
            stacklevel=2,
        )
    missing = [str(i) for i in range(1, first.count + 1) if i not in by_index]
    if missing:
        more = f" and {len(missing) - SHOWN} more" if len(missing) > SHOWN else ""
        listed = ", ".join(missing[:SHOWN])
        raise InputError(f"shards missing of {first.count}: {listed}{more}; given: {len(by_index)}")
    return [by_index[i] for i in sorted(by_index)]


def _check_same(path: Path, first: Shard, other: Path, second: Shard) -> None:
    """Refuse two shards of different scorings; what differs is named."""
    a, b = (
        {"number of shards": s.count, "units of input": s.units, **s.settings}
        for s in (first, second)
    )
    for name in {**a, **b}:
        if a.get(name) != b.get(name):
            raise InputError(
                f"{other}: {name}: found {_brief(b.get(name))}, "
                f"allowed: {_brief(a.get(name))} as in {path}; merge shards of one scoring"
            )


def _brief(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 100 else f"{text[:100]}…"


def _small(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(f"{name}.npy")
    if info.file_size > MAX_SMALL:
        raise ValueError(f"{name} takes {info.file_size:,} bytes, allowed: {MAX_SMALL:,}")
    with archive.open(info) as member:
        array: np.ndarray = npy.read_array(member, allow_pickle=False)
        return array


class _Column:
    """An array in an archive, read some rows at a time."""

    def __init__(self, file: IO[bytes], dtype: np.dtype[Any]) -> None:
        if npy.read_magic(file) != (1, 0):
            raise ValueError("an array of another version")
        self.shape, fortran, self.dtype = npy.read_array_header_1_0(file)
        same = self.dtype == dtype or self.dtype.kind == dtype.kind == "U"
        if fortran or not self.shape or not same:
            raise ValueError(f"found a column of {self.dtype} {self.shape}")
        self.file = file
        self.row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])
        if self.row_bytes > MAX_ROW:
            raise ValueError(f"found rows of {self.row_bytes:,} bytes, allowed: {MAX_ROW:,}")

    def take(self, rows: int) -> np.ndarray:
        data = self.file.read(rows * self.row_bytes)
        return np.frombuffer(data, self.dtype).reshape(rows, *self.shape[1:])


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    """An archive; whatever is wrong within the block is told as a fault of the file."""
    try:
        with zipfile.ZipFile(path) as archive:
            packings = {member.compress_type for member in archive.infolist()}
            if not packings <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise ValueError("packed in a way that NumPy does not pack")
            yield archive
    except NervecodeError:
        raise
    except FileNotFoundError:
        raise ArtifactError(f"{path}: is missing") from None
    except Exception as error:  # zipfile, zlib and numpy each raise errors of their own
        raise ArtifactError(f"{path}: is damaged or no shard ({error})") from None
