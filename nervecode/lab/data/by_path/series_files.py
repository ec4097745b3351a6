"""Series in `.ts` files, the format of the UEA and UCR archives (https://timeseriesclassification.com).

Header lines begin with `@`, comments with `#` or `%`; below `@data` each line is a series: its
channels apart by colons, the values of each by commas, and after the last colon its class. Empty
lines and comments are passed over everywhere.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from nervecode.errors import InputError, did_you_mean
from nervecode.files import absent
from nervecode.lab.data.by_path.bad_rows import BadRows
from nervecode.lab.data.by_path.memory import MAX_BYTES
from nervecode.lab.data.by_path.rounding import merged_columns
from nervecode.lab.data.by_path.series_header import Lines, SeriesHeader, as_listed, read_header
from nervecode.lab.data.by_path.text_files import TextError, text_lines
from nervecode.lab.data.seen import Seen

SAMPLE = 10  # series that are looked at for what rounding takes


def read_ts(path: Path, seen: Seen | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """(N, C, T) float32 series of one length, and (N,) texts of their classes; None without.

    `seen` is told which channels lose by rounding.

    Raises:
        InputError: a file that is absent or no such file, series of unequal lengths or other than
            the header says, or a value that is missing or no number.
    """
    classes: list[str] = []
    inputs = _read(path, seen or Seen(), BadRows(), classes)
    return inputs, np.array(classes) if classes else None


def read_new_ts(path: Path, seen: Seen, bad: BadRows) -> np.ndarray:
    """(N, C, T) float32 series alone: what stands where a class would is not looked at.

    `bad` is told of series that cannot be read, which are NaN where it leaves them out.

    Raises:
        InputError: as `read_ts`, or no series can be read.
    """
    return _read(path, seen, bad, None)


def _read(path: Path, seen: Seen, bad: BadRows, classes: list[str] | None) -> np.ndarray:
    lines = _lines(path)
    with closing(lines):
        try:
            return _series(lines, read_header(lines, path), path, seen, bad, classes)
        except FileNotFoundError:
            raise InputError(absent(path)) from None
        except TextError as error:
            raise InputError(f"{path}: line {error.line}: {error}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error})") from None


def _lines(path: Path) -> Lines:
    """Those that are neither empty nor comments, with the file and their number from 1."""
    with closing(text_lines(path)) as lines:
        for number, line in enumerate(lines, start=1):
            text = line.strip()
            if text and text[0] not in "#%":
                yield f"{path}: line {number}", text


def _series(
    lines: Lines,
    header: SeriesHeader,
    path: Path,
    seen: Seen,
    bad: BadRows,
    classes: list[str] | None,
) -> np.ndarray:
    values, count = array("f"), 0
    exact: list[list[np.ndarray]] = []
    shape: tuple[int, int] | None = None
    for row, (line, text) in enumerate(lines):
        source, count = f"{line} (row {row})", row + 1
        try:
            if classes is not None and header.labelled:
                classes.append(_class(text.rpartition(":")[2].strip(), header, source))
            parts = _parts(text, header, shape, source)
        except InputError as error:
            bad.add(row, str(error))
            continue
        shape = len(parts), len(parts[0])
        for part in parts:
            values.frombytes(part.astype(np.float32).tobytes())
        if len(exact) < SAMPLE:
            exact.append(parts)
        if len(values) * values.itemsize > MAX_BYTES:
            raise InputError(f"{path}: takes more than {MAX_BYTES:,} bytes; allowed: a part of it")
    if shape is None:
        none = next(iter(bad.reasons.values()), f"{path}: holds no series below @data")
        raise InputError(none)
    seen.rounded += merged_columns(np.array(exact))
    inputs = np.frombuffer(values, np.float32).reshape(-1, *shape)
    if not bad.reasons:
        return inputs
    whole = np.full((count, *shape), np.nan, np.float32)
    whole[np.isin(np.arange(count), list(bad.reasons), invert=True)] = inputs
    return whole


def _parts(
    text: str, header: SeriesHeader, shape: tuple[int, int] | None, source: str
) -> list[np.ndarray]:
    """The channels of a series, of the shape of the header, or of those before it."""
    channels = text.split(":")[: -1 if header.labelled else None]
    parts = [_channel(part, f"{source}, channel {c}") for c, part in enumerate(channels)]
    shape = shape or (header.channels or len(parts), header.steps or _first_length(parts))
    _check_shape(parts, shape, header, source)
    return parts


def _class(name: str, header: SeriesHeader, source: str) -> str:
    if name in ("", "?"):
        raise InputError(f"{source}: found {name!r}, allowed: a class behind the last colon")
    if "," in name and all(map(_is_finite, name.split(","))):
        raise InputError(f"{source}: found values behind the last colon, allowed there: a class")
    # A class of several words stands in the list as several.
    if header.classes and not header.classes.issuperset(map(as_listed, name.split())):
        raise InputError(
            f"{source}: found the class {name!r}, which @classLabel does not list; "
            f"{did_you_mean(name, header.classes)}"
        )
    return name


def _channel(text: str, source: str) -> np.ndarray:
    """(T,) float64 that are finite as float32."""
    words = text.split(",")
    try:
        channel = np.array(words, np.float64)
        right = _fits(channel)
    except ValueError:
        right = np.array([_is_finite(word) for word in words])
    if not right.all():
        step = int(right.argmin())
        raise InputError(
            f"{source}: found {words[step].strip()!r} at step {step}, allowed: a finite float32; "
            "what is missing has to be filled in"
        )
    return channel


def _first_length(parts: Sequence[np.ndarray]) -> int:
    return len(parts[0]) if parts else 0


def _check_shape(
    parts: Sequence[np.ndarray], shape: tuple[int, int], header: SeriesHeader, source: str
) -> None:
    channels, steps = shape
    if len(parts) != channels or not channels:
        told = "in the header" if header.channels else "in row 0"
        raise InputError(
            f"{source}: found {len(parts)} channels, allowed: {channels or 1}, as {told}"
        )
    for number, part in enumerate(parts):
        if len(part) != steps:
            told = "in the header" if header.steps else "in row 0"
            raise InputError(
                f"{source}, channel {number}: found {len(part)} steps, allowed: {steps}, as "
                f"{told}; cut or pad the series to one length"
            )


def _fits(values: np.ndarray) -> np.ndarray:
    """(T,) whether each is finite as float32."""
    with np.errstate(over="ignore"):
        return np.isfinite(values.astype(np.float32))


def _is_finite(word: str) -> bool:
    try:
        return bool(_fits(np.array([word], np.float64)).all())
    except ValueError:
        return False
