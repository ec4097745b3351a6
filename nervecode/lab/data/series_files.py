"""Series in `.ts` files, the format of the UEA and UCR archives (https://timeseriesclassification.com).

Header lines begin with `@`, comments with `#` or `%`; below `@data` each line is a series: its
channels apart by colons, the values of each by commas, and after the last colon its class.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.data.table_files import MAX_BYTES


def read_ts(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """(N, C, T) float32 series of one length, and (N,) texts of their classes; None without.

    Raises:
        InputError: a file that is absent or no such file, series of unequal lengths, or a value
            that is missing or no number.
    """
    try:
        with path.open(encoding="utf-8") as file:
            lines = (line.strip() for line in file)
            header = _header(lines, path)
            return _series(lines, path, labelled=header.get("classlabel", "false") == "true")
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _header(lines: Iterator[str], path: Path) -> dict[str, str]:
    """The first word after each key, in small letters."""
    values: dict[str, str] = {}
    for line in lines:
        if not line or line[0] in "#%":
            continue
        if line[0] != "@":
            break
        key, _, rest = line[1:].lower().partition(" ")
        if key == "data":
            if values.get("timestamps") == "true":
                raise InputError(f"{path}: has time stamps, allowed: values at equal steps alone")
            return values
        values[key] = rest.split()[0] if rest.split() else ""
    raise InputError(f"{path}: has no line @data, allowed: a .ts file")


def _series(
    lines: Iterator[str], path: Path, *, labelled: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    values, classes = array("f"), []
    shape: tuple[int, int] | None = None
    for row, line in enumerate(line for line in lines if line):
        *channels, last = line.split(":")
        if labelled:
            classes.append(last.strip())
        else:
            channels.append(last)
        parts = [
            _channel(text, f"{path}: row {row}, channel {c}") for c, text in enumerate(channels)
        ]
        shape = shape or (len(parts), len(parts[0]) if parts else 0)
        _check_shape(parts, shape, f"{path}: row {row}")
        for part in parts:
            values.frombytes(part.tobytes())
        if len(values) * values.itemsize > MAX_BYTES:
            raise InputError(f"{path}: takes more than {MAX_BYTES:,} bytes; allowed: a part of it")
    if shape is None:
        raise InputError(f"{path}: holds no series below @data")
    inputs = np.frombuffer(values, np.float32).reshape(-1, *shape)
    return inputs, np.array(classes) if labelled else None


def _channel(text: str, source: str) -> np.ndarray:
    """(T,) float32."""
    words = text.split(",")
    try:
        channel = np.array(words, np.float64)
    except ValueError:
        step = next(step for step, word in enumerate(words) if not _is_number(word))
        raise InputError(
            f"{source}: found {words[step]!r} at step {step}, allowed: a number"
        ) from None
    if not np.isfinite(channel).all():
        step = int((~np.isfinite(channel)).argmax())
        raise InputError(
            f"{source}: found {words[step]!r} at step {step}, allowed: a finite number"
        )
    return channel.astype(np.float32)


def _check_shape(parts: list[np.ndarray], shape: tuple[int, int], source: str) -> None:
    channels, steps = shape
    if len(parts) != channels or not channels:
        raise InputError(
            f"{source}: found {len(parts)} channels, allowed: {channels or 1}, as in row 0"
        )
    for number, part in enumerate(parts):
        if len(part) != steps:
            raise InputError(
                f"{source}, channel {number}: found {len(part)} steps, allowed: {steps}, as in row "
                "0; cut or pad the series to one length"
            )


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
