"""Sets by path: `array:PATH`, `table:PATH` and `series:PATH`, with their classes and parts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.by_path.categories import are_dates
from nervecode.lab.data.by_path.columns import Column
from nervecode.lab.data.by_path.memory import check_size
from nervecode.lab.data.by_path.rows import READERS, Rows, read_inputs
from nervecode.lab.data.by_path.table_files import typed_blocks
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.seen import UNENCODED
from nervecode.lab.schema import DataConfig

if TYPE_CHECKING:
    from nervecode.lab.data.by_path.encoder import TableEncoder
    from nervecode.lab.data.seen import Seen

MAX_CLASSES = 1000
PARTS = ("train", "calibration", "test")


def is_own(spec: str) -> bool:
    """Whether a set is given by the path of an array, a table or series."""
    return spec.partition(":")[0] in READERS


def load_own(config: DataConfig) -> Dataset:
    """The labelled set that a config gives by path.

    Raises:
        InputError: a file that cannot be read, or is not what the config says; the row and column
            are named.
        MissingExtraError: a table without pandas.
    """
    kind, _, path = config.id.partition(":")
    paths = [Path(path), *([Path(config.test)] if config.test else [])]
    _check_another(paths)
    rows = READERS[kind](paths, config)
    if "target" not in rows.columns:
        raise InputError(f"data.id: {path} has no classes, allowed as ID data: a set with classes")
    classes, labels = _classes(rows, paths)
    whole = Samples(rows.inputs, torch.from_numpy(labels), _groups(rows, paths))
    part = _part_of_each(rows, paths)
    if part is None:
        return Dataset(whole, classes=classes, table=rows.table, seen=rows.seen)
    train, calibration, test = (whole[torch.from_numpy(part == name)] for name in PARTS)
    return Dataset(
        train, test, calibration if len(calibration) else None, classes, rows.table, rows.seen
    )


def outside_inputs(spec: str, encoder: TableEncoder | None, seen: Seen) -> Tensor:
    """The inputs of a set by path, whatever its classes are.

    Args:
        spec: `array:PATH`, `table:PATH` or `series:PATH`.
        encoder: of the ID table, where that is one.
        seen: told what the encoder meets.

    Raises:
        InputError: a file that cannot be read, or a table where ID data are none.
    """
    kind, _, name = spec.partition(":")
    path = Path(name)
    if kind != "table":
        if encoder is not None:
            seen.doubts.append(f"it {UNENCODED}")
        return read_inputs(path, series=kind == "series", seen=seen)[0]
    if encoder is None:
        raise InputError(f"{path}: is a table, allowed: inputs of the kind of the ID set")
    parts, size, start = [], 0, 0
    for block in typed_blocks(path, encoder.names, encoder.numbers):
        parts.append(encoder.encode(block, seen))
        if overflow := encoder.overflow(parts[-1]):
            row, what = overflow
            raise InputError(f"{path}: row {start + row}, {what}")
        start += len(block)
        size += parts[-1].nbytes
        check_size(path, size, instead="fewer columns")
    if not parts:
        raise InputError(f"{path}: holds no row below the names of its columns")
    return torch.cat(parts)


def _check_another(paths: Sequence[Path]) -> None:
    if len(paths) > 1 and all(path.exists() for path in paths) and paths[0].samefile(paths[1]):
        raise InputError(
            f"data.test: {paths[1]} is the file of data.id itself, allowed: rows that are not "
            "trained on"
        )


def _classes(rows: Rows, paths: Sequence[Path]) -> tuple[tuple[str, ...], np.ndarray]:
    """(names of the classes: whole numbers in their order, else texts in theirs; (N,) labels)."""
    target = rows.columns["target"].merged()
    if (target.codes < 0).any():
        place = rows.place(int((target.codes < 0).argmax()), paths)
        raise InputError(f"data.target: {place}: found nothing, allowed: a class")
    used = target.used
    names = [target.names[code] for code in used]
    if are_dates(names):
        raise InputError(
            f"data.target: {rows.place(0, paths)}: found {target.names[target.codes[0]]!r}, a "
            "date, allowed: names or whole numbers of classes"
        )
    _check_measured(rows, target, paths)
    if len(used) > MAX_CLASSES:
        raise InputError(
            f"data.target: {paths[0]}: found {len(used):,} classes, allowed: {MAX_CLASSES:,}; "
            "measurements are no classes"
        )
    order = sorted(names, key=int) if target.is_whole else sorted(names)
    number_of = np.zeros(max(used) + 1, np.int64)
    number_of[used] = [order.index(name) for name in names]
    return tuple(order), number_of[target.codes]


def _check_measured(rows: Rows, target: Column, paths: Sequence[Path]) -> None:
    """Refuse numbers of which some are not whole."""
    numbers = {code: _number(target.names[code]) for code in target.used}
    broken = [code for code, number in numbers.items() if number and not number.is_integer()]
    if broken and not target.is_whole and None not in numbers.values():
        row = int(np.isin(target.codes, broken).argmax())
        raise InputError(
            f"data.target: {rows.place(row, paths)}: found {target.names[target.codes[row]]}, "
            "allowed: names or whole numbers of classes; measurements are no classes"
        )


def _groups(rows: Rows, paths: Sequence[Path]) -> Tensor | None:
    """(N,) the number of each row's group."""
    if "group" not in rows.columns:
        return None
    codes = rows.columns["group"].merged().codes
    if (codes < 0).any():
        place = rows.place(int((codes < 0).argmax()), paths)
        raise InputError(f"data.group: {place}: found nothing, allowed: the name of a group")
    return torch.from_numpy(codes.astype(np.int64))


def _part_of_each(rows: Rows, paths: Sequence[Path]) -> np.ndarray | None:
    """(N,) the name of each row's part; None where nothing says."""
    if len(paths) > 1:
        return np.repeat(["train", "test"], rows.counts)
    if "split" not in rows.columns:
        return None
    split = rows.columns["split"]
    names: np.ndarray = np.array([*split.names, "nothing"])[split.codes]
    wrong = ~np.isin(names, PARTS)
    if wrong.any():
        row = int(wrong.argmax())
        raise InputError(
            f"data.split: {rows.place(row, paths)}: found {str(names[row])!r}, "
            f"allowed: {', '.join(PARTS)}"
        )
    for part in ("train", "test"):
        if part not in names:
            raise InputError(f"data.split: {paths[0]}: no row is in the part {part!r}")
    return names


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
