"""The section `data`: what the classifier knows, and what it meets afterwards."""

from __future__ import annotations

from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from nervecode.lab.schema.section import Section
from nervecode.lab.schema.values import Count, Fraction

PATHS = ("folder", "list", "array", "table", "series")  # sets that are given as in table:PATH


def _class_name(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise ValueError(f"found {value!r}, allowed: names in quotes, or numbers of classes")
    return value


def _column_name(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


ColumnName = Annotated[str, BeforeValidator(_column_name)]
ClassName = Annotated[int | str, BeforeValidator(_class_name)]


class DataConfig(Section):
    """Which data the classifier knows (ID), and which sets it meets afterwards.

    A set is `NAME` or `NAME:ARGUMENT`: `held_out` are the ID set's own held-out classes,
    `digits:8,9` are classes of a data set, `rotate:45` is a shift of the ID test split,
    `folder:PATH`, `list:PATH`, `array:PATH`, `table:PATH` and `series:PATH` are your own. In a
    file, `mnist?` is `mnist` where that set is on the machine, and nothing elsewhere.
    """

    LATER = frozenset(
        {"target", "split", "test", "calibration", "group", "categories", "drop", "resize"}
    )

    id: str
    # Classes by their names, or by their numbers in the order of the names.
    hold_out: tuple[ClassName, ...] = ()
    # Of a set by path, columns of a table or arrays beside the inputs: the class of each row (`y`
    # beside arrays), its part (train, calibration or test), and its group, which is never split.
    target: ColumnName | None = None
    split: ColumnName | None = None
    group: ColumnName | None = None
    # The paths of a test part of its own, and of folders and lists of a calibration part.
    test: str | None = None
    calibration: str | None = None
    # Of a table: columns of numbers that stand for categories, and columns that are left out.
    categories: tuple[ColumnName, ...] = ()
    drop: tuple[ColumnName, ...] = ()
    # Height and width of the images; None keeps those of the set (32 for pictures of many sizes).
    image_size: Annotated[int, Field(strict=True, ge=4, le=1024)] | None = None
    # Of pictures in files, the shorter side before the centre is cropped; None: no more than that.
    resize: Annotated[int, Field(strict=True, ge=4, le=2048)] | None = None
    # The published part that ID calibration is taken from. `test` is OpenOOD's choice; what is
    # taken is then no part of ID test.
    calibration_from: Literal["train", "test"] = "train"
    calibration_fraction: Fraction = 0.2
    test_fraction: Fraction = 0.2
    split_seed: Annotated[int, Field(strict=True, ge=0)] = 0
    limit_train: Count | None = None
    near: tuple[str, ...] = ()
    far: tuple[str, ...] = ()
    shift: tuple[str, ...] = ()

    @field_validator("id")
    @classmethod
    def _absolute_id(cls, spec: str) -> str:
        return _absolute(spec)

    @field_validator("near", "far")
    @classmethod
    def _absolute_sets(cls, specs: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(map(_absolute, specs))

    @field_validator("test", "calibration")
    @classmethod
    def _absolute_part(cls, path: str | None) -> str | None:
        return None if path is None else _whole(path)

    @model_validator(mode="after")
    def _columns(self) -> DataConfig:
        kind = self.id.partition(":")[0]
        of_paths = ("target", "split", "test", "group")
        for key in (*of_paths, "categories", "drop"):
            kinds = ("array", "table", "series") if key in of_paths else ("table",)
            kinds = ("folder", "list", *kinds) if key == "test" else kinds
            if getattr(self, key) and kind not in kinds:
                allowed = " or ".join(f"{name}:PATH" for name in kinds)
                raise ValueError(f"{key} is for data.id {allowed}, found {self.id!r}")
        if kind == "table" and not self.target:
            raise ValueError(
                "target is missing: the column of a table that holds the classes; "
                "-o data.target=COLUMN names it"
            )
        target = self.target or "y"
        for key in ("split", "group"):
            if getattr(self, key) == target:
                raise ValueError(f"{key}: found {target!r}, the target, allowed: another column")
        if target in self.drop:
            raise ValueError(f"drop: found {target!r}, the target, allowed: other columns")
        if self.split and self.test:
            raise ValueError("found split and test, allowed: one of them")
        if self.calibration and not (kind in ("folder", "list") and self.test):
            raise ValueError("calibration is for data.id folder:PATH or list:PATH with a test part")
        folders = [self.id, *(f"folder:{path}" for path in (self.test, self.calibration) if path)]
        for first, second in combinations(folders, 2):
            if _nested(first, second):
                raise ValueError(f"{first} and {second} share pictures, allowed: folders apart")
        if self.resize and self.resize < (self.image_size or self.resize):
            raise ValueError(f"resize: found {self.resize}, allowed: image_size or more")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> DataConfig:
        specs = [*self.near, *self.far, *self.shift]
        twice = sorted({spec for spec in specs if specs.count(spec) > 1})
        if twice:
            raise ValueError(f"the set {twice[0]!r} is given twice")
        for spec in (*self.near, *self.far):
            if spec == self.id or _nested(spec, self.id):
                raise ValueError(f"the OOD set {spec!r} is the ID set itself")
        if "held_out" in specs and not self.hold_out:
            raise ValueError("the set 'held_out' needs classes under hold_out")
        if self.calibration_fraction + self.test_fraction >= 1:
            raise ValueError("calibration_fraction + test_fraction must stay below 1")
        return self


def _absolute(spec: str) -> str:
    """`folder:PATH` with the whole path, so that a run means the same from any folder."""
    name, _, argument = spec.partition(":")
    if name not in PATHS:
        return spec
    if not argument:
        raise ValueError(f"the set {name!r} needs a path, as in {name}:PATH")
    return f"{name}:{_whole(argument)}"


def _whole(path: str) -> str:
    try:
        whole = str(Path(path).expanduser().resolve())
        whole.encode()
    except (RuntimeError, UnicodeEncodeError) as error:  # no such home; not UTF-8, as a config is
        raise ValueError(f"the path {path!r} cannot be written into a config ({error})") from None
    return whole


def _nested(spec: str, other: str) -> bool:
    """Whether one of two folders lies in the other."""
    if not (spec.startswith("folder:") and other.startswith("folder:")):
        return False
    first, second = (Path(text.partition(":")[2]) for text in (spec, other))
    return first.is_relative_to(second) or second.is_relative_to(first)
