"""Classes, groups and categories by their values: no two are merged, none is in two spellings."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nervecode.errors import InputError
from nervecode.lab.config.yaml import as_yaml, parse_value
from nervecode.lab.data.by_path import table_files
from nervecode.lab.data.by_path.columns import Column, spelling
from nervecode.lab.data.by_path.encoded import Category
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.seen import Seen
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.schema import DataConfig

COUNT = 120
TURN = np.arange(COUNT) % 3
X = np.random.default_rng(0).normal(size=COUNT).astype(np.float32)


def splits(path: Path, **values: Any) -> Splits:
    if path.suffix == ".npz":
        return build_splits(DataConfig.model_validate({"id": f"array:{path}", **values}))
    given = {"id": f"table:{path}", "target": "y", **values}
    return build_splits(DataConfig.model_validate(given))


def write(path: Path, **columns: Any) -> Path:
    frame = pd.DataFrame({"x": X, **columns})
    if path.suffix == ".npz":
        np.savez(path, x=X[:, None], **columns)
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.to_parquet(path)
    return path


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (7, "7"), (7.0, "7"), (np.float32(7), "7"), (Decimal("7.00"), "7"), (-0.0, "0"),
        (2**63 - 1, str(2**63 - 1)), (7.5, "7.5"), (np.float32(0.1), "0.1"), (True, "True"),
        ("7.0", "7.0"), ("07", "07"), ("ant ", "ant"), (float("inf"), "inf"),
    ],
)  # fmt: skip
def test_a_whole_number_is_one_in_any_type(value: Any, text: str) -> None:
    assert spelling(value) == text


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_whole_numbers_beyond_floats_are_classes_of_their_own(tmp_path: Path, suffix: str) -> None:
    big = 2**53 + TURN
    assert splits(write(tmp_path / f"my{suffix}", y=big)).classes == tuple(
        str(2**53 + k) for k in range(3)
    )


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
@pytest.mark.parametrize(
    "texts", [("01", "1", "2"), ("1", "1_0", "10"), ("1e1", "10", "7"), ("07", "7", "8")]
)
def test_texts_that_look_like_numbers_stay_as_they_are(
    tmp_path: Path, suffix: str, texts: tuple[str, ...]
) -> None:
    path = write(tmp_path / f"my{suffix}", y=np.array(texts)[TURN])
    assert splits(path).classes == tuple(sorted(texts))
    given = parse_value(as_yaml({"data": {"hold_out": [texts[0]]}}), "config.yaml")["data"]
    held = splits(path, near=["held_out"], **given)
    assert held.classes == tuple(sorted(texts[1:]))
    assert len(held.ood[0].samples) == COUNT // 3


def test_a_class_that_is_no_plain_number_needs_no_quotes() -> None:
    """YAML 1.1 reads octal, hexadecimal, binary and base 60, and so another class."""
    given = "[01, 1, -07, 0, 0x10, 0b1, 12:30, 1_000, -3]"
    assert parse_value(given, "-o") == ["01", 1, "-07", 0, "0x10", "0b1", "12:30", "1_000", -3]


@pytest.mark.parametrize("y", [TURN + 1.0, np.array(["1", "2", "3.0"])[TURN]])
@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_a_column_of_whole_floats_has_the_names_of_integers(
    tmp_path: Path, suffix: str, y: np.ndarray
) -> None:
    assert splits(write(tmp_path / f"my{suffix}", y=y)).classes == ("1", "2", "3")


def test_whole_numbers_of_arrays_are_merged_whatever_the_type() -> None:
    files = [np.array([2**53 + 1, 7]), np.array([7.0, np.nan]), np.array(["7.0", "8"])]
    column = Column.of_arrays(files).merged()
    names = [column.names[code] if code >= 0 else None for code in column.codes]
    assert names == [str(2**53 + 1), "7", "7", None, "7", "8"]
    mixed = Column.of_arrays([np.array(["7.0", "7", "07"])])
    assert mixed.merged() is mixed


@pytest.mark.parametrize("suffix", [".npz", ".parquet", ".csv"])
def test_groups_of_two_files_are_the_same_whatever_their_type(tmp_path: Path, suffix: str) -> None:
    group = np.arange(COUNT) // 6
    train = write(tmp_path / f"my{suffix}", y=TURN, group=group)
    test = write(tmp_path / f"test{suffix}", y=TURN, group=group.astype(float))
    with pytest.raises(InputError, match=r"120 rows of the test split of .* belong to groups"):
        splits(train, test=str(test), group="group")


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (pd.array([10, 20, None], "Int64"), ["", "10", "20"]),
        (np.array([10, 20, np.nan]), ["", "10", "20"]),
        (pd.array([True, False, None], "boolean"), ["", "False", "True"]),
        (np.array([True, False, None], object), ["", "False", "True"]),
        (pd.array([2**53, 2**53 + 1, None], "Int64"), ["", str(2**53), str(2**53 + 1)]),
        (np.array(["ant ", "ant", "? "], object), ["", "ant"]),
    ],
)  # fmt: skip
def test_a_category_has_one_spelling_in_all_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: Any, names: list[str]
) -> None:
    late = np.where(np.arange(COUNT) < COUNT - 3, np.arange(COUNT) % 2, 2)
    monkeypatch.setattr(table_files, "BLOCK", 40)
    part = np.repeat(["train", "test", "train"], 40)
    code = pd.Series(values).iloc[late].array
    table = write(tmp_path / "my.parquet", y=TURN, code=code, part=part)
    encoder = splits(table, categories=["code"], split="part").encoder
    assert encoder is not None
    (column,) = (column for column in encoder.to_json()["columns"] if column["name"] == "code")
    assert column["categories"] == names


def codes(path: Path, part: pd.Series, **columns: pd.Series) -> Splits:
    """A column of categories, of which the last third of the rows is test."""
    table = write(path, y=np.arange(COUNT) % 2, part=part, **columns)
    return splits(table, categories=["code"], split="part")


@pytest.mark.parametrize("late", ["whole", "float", "text"])
@pytest.mark.parametrize("early", ["whole", "float", "text"])
def test_a_category_of_whole_numbers_is_one_in_all_spellings(
    tmp_path: Path, early: str, late: str
) -> None:
    made = {"whole": TURN, "float": TURN.astype(float), "text": np.array(["0", "1.0", "2"])[TURN]}
    part = pd.Series(np.repeat(["train", "calibration", "test"], COUNT // 3))
    code = pd.Series(made[early], dtype=object).where(part == "train", pd.Series(made[late]))
    mixed = codes(tmp_path / "my.csv", part, code=code)
    assert mixed.remarks == ()
    assert mixed.encoder is not None
    assert mixed.encoder.to_json()["columns"][1]["categories"] == ["0", "1", "2"]
    torch.testing.assert_close(
        mixed.test.inputs[:, 1:].argmax(1), torch.tensor(TURN[part == "test"])
    )


def test_categories_of_a_run_that_kept_the_points_are_found_all_the_same() -> None:
    encoder = TableEncoder((Category("code", ("", "0.0", "1.0")),))
    table = pd.DataFrame({"code": pd.Categorical(["0", "1.0", None, "01", "2"])})
    seen = Seen()
    assert encoder.encode(table, seen).tolist() == [
        [0, 1, 0],
        [0, 0, 1],
        [1, 0, 0],
        [0] * 3,
        [0] * 3,
    ]
    assert seen.unseen == {"code": 2}


def test_categories_that_are_not_all_whole_numbers_stay_as_they_are() -> None:
    encoder = TableEncoder((Category("code", ("1", "1.0", "01")),))
    table = pd.DataFrame({"code": pd.Categorical(["1", "1.0", "01", "1e0"])})
    assert encoder.encode(table, Seen()).tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 1], [0, 0, 0]]
    one = TableEncoder((Category("code", ("1", "x")),))
    assert one.encode(table, Seen())[:, 0].tolist() == [1, 0, 0, 0]


def test_blanks_behind_a_class_are_none_of_its_name(tmp_path: Path) -> None:
    lines = [f"{x}, {'ab'[i % 2]}{' ' * (i % 3)}\n" for i, x in enumerate(X)]
    (tmp_path / "my.csv").write_text("x,y\n" + "".join(lines))
    assert splits(tmp_path / "my.csv").classes == ("a", "b")
