"""Tables by path: columns encoded by ID train alone, parts of one's own, and what is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.data.by_path import memory, table_files
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.seen import Seen
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.inference.open import open_inputs
from nervecode.lab.schema import DataConfig
from tests.lab.inference.reading import read_inputs

COLOURS = ["red", "green", "blue"]


@pytest.fixture
def frame() -> pd.DataFrame:
    random = np.random.default_rng(0)
    count = 120
    return pd.DataFrame(
        {
            "height": random.normal(170, 10, count).round(3),
            "time": 1.7e9 + random.integers(0, 100, count),
            "colour": random.choice(COLOURS, count),
            "kind": np.array(["ant", "bee", "cat"])[np.arange(count) % 3],
            "owner": [f"owner {i // 4}" for i in range(count)],
        }
    )


def write(frame: pd.DataFrame, path: Path) -> Path:
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return path


def config(path: Path, **values: Any) -> DataConfig:
    defaults = {"id": f"table:{path}", "target": "kind", "drop": ["owner"]}
    return DataConfig.model_validate(defaults | values)


def refused(path: Path, **values: Any) -> str:
    with pytest.raises((InputError, ValueError)) as caught:
        build_splits(config(path, **values))
    return str(caught.value)


def ood(splits: Splits, place: int = 0) -> Samples:
    return splits.ood[place].samples


def oracle(train: pd.DataFrame, table: pd.DataFrame) -> np.ndarray:
    """What scikit-learn makes of the columns, fitted to ID train."""
    scaler = StandardScaler().fit(train[["height", "time"]].to_numpy())
    hot = OneHotEncoder(sparse_output=False, handle_unknown="ignore").fit(train[["colour"]])
    columns = scaler.transform(table[["height", "time"]].to_numpy())
    return np.concatenate([columns, hot.transform(table[["colour"]])], 1).astype(np.float32)


def split(frame: pd.DataFrame) -> pd.DataFrame:
    parts = ["train", "train", "train", "calibration", "test"]
    return frame.assign(part=[parts[i // 3 % 5] for i in range(len(frame))])


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_columns_are_those_of_scikit_learn_fitted_to_id_train(
    frame: pd.DataFrame, tmp_path: Path, suffix: str
) -> None:
    frame = split(frame)
    splits = build_splits(config(write(frame, tmp_path / f"my{suffix}"), split="part"))
    train = frame[frame.part == "train"]
    for name in ("train", "calibration", "test"):
        part = frame[frame.part == name]
        samples = getattr(splits, name)
        torch.testing.assert_close(samples.inputs, torch.from_numpy(oracle(train, part)))
        names = [["ant", "bee", "cat"][label] for label in samples.labels]
        assert names == part.kind.tolist()
    assert splits.classes == ("ant", "bee", "cat")
    assert splits.remarks == ()


def test_nothing_but_id_train_is_fitted(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame = split(frame)
    before = build_splits(config(write(frame, tmp_path / "my.csv"), split="part")).encoder
    frame.loc[frame.part != "train", "height"] = 0.0
    frame.loc[frame.part != "train", "colour"] = "violet"
    after = build_splits(config(write(frame, tmp_path / "my.csv"), split="part"))
    assert after.encoder == before
    assert after.test.inputs[:, 2:].abs().sum() == 0
    number = int((frame.part != "train").sum())
    assert f"ID: categories that ID train lacks, taken as zeros: {number} in 'colour'" in (
        after.remarks
    )


def test_missing_numbers_are_the_mean_and_missing_categories_their_own(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame = split(frame)
    frame.loc[[0, 1], "height"] = np.nan
    frame.loc[[0, 5], "colour"] = np.nan
    splits = build_splits(config(write(frame, tmp_path / "my.csv"), split="part"))
    assert splits.train.inputs[:2, 0].tolist() == [0, 0]
    assert splits.train.inputs[0, 2:].tolist() == [1, 0, 0, 0]
    assert splits.remarks == ("ID: missing numbers, taken as the mean of ID train: 2 in 'height'",)


@pytest.mark.parametrize("words", [("True", "False"), ("TRUE", "FALSE"), ("true", "false")])
def test_truth_is_one_however_it_is_spelled(
    frame: pd.DataFrame, tmp_path: Path, words: tuple[str, str]
) -> None:
    """As pandas, Excel and JSON spell it; beside another word they are words."""
    smokes = np.where(frame.index % 3 == 0, *words)
    own = write(frame.assign(colour=smokes), tmp_path / "my.csv")
    far = write(frame.assign(colour=frame.index % 3 == 0), tmp_path / "far.parquet")
    splits = build_splits(config(own, far=[f"table:{far}"]))
    assert splits.train.inputs.shape[1] == 4
    assert torch.equal(ood(splits).inputs[:, 3], torch.from_numpy(frame.index % 3 == 0).float())
    assert not [remark for remark in splits.remarks if "lacks" in remark]
    unsure = frame.assign(colour=np.where(frame.index % 4 == 0, "unknown", smokes))
    text = build_splits(config(write(unsure, own), far=[f"table:{far}"])).remarks
    assert bool([remark for remark in text if "lacks" in remark]) == (words[0] != "True")


def test_held_out_classes_are_named_or_numbered(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(frame, tmp_path / "my.csv")
    by_name = build_splits(config(path, hold_out=["bee"], near=["held_out"]))
    by_number = build_splits(config(path, hold_out=[1], near=["held_out"]))
    assert by_name.classes == by_number.classes == ("ant", "cat")
    assert by_name.ood[0].name == "table_my_bee"
    assert torch.equal(ood(by_name).inputs, ood(by_number).inputs)
    assert len(ood(by_name)) == 40
    text = refused(path, hold_out=["bees"])
    assert "has no class bees; did you mean 'bee'? Allowed: ant, bee, cat" in text
    assert "allowed: names in quotes, or numbers" in refused(path, hold_out=[True])


def test_whole_numbers_are_classes_in_their_order(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["kind"] = np.array([10, 9, -1])[np.arange(len(frame)) % 3]
    splits = build_splits(config(write(frame, tmp_path / "my.csv"), hold_out=[9]))
    assert splits.classes == ("-1", "10")


@pytest.mark.parametrize("kinds", [(2, 4, 6), (2.0, 4.0, 6.0), ("2", "4", "6"), ("2", "4", "x")])
def test_whole_numbers_are_names_and_no_places(
    kinds: tuple[Any, ...], frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame["kind"] = np.array(kinds)[np.arange(len(frame)) % 3]
    path = write(frame, tmp_path / "my.csv")
    for absent in (0, 1, "1"):
        text = refused(path, hold_out=[absent])
        assert f"data.hold_out: table:{path} has no class {absent}; Allowed: 2, 4, " in text
    assert build_splits(config(path, hold_out=[4])).classes[0] == "2"


def test_a_table_of_other_columns_is_matched_by_name(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame = split(frame)
    path = write(frame, tmp_path / "my.csv")
    other = frame[["colour", "owner", "time", "height"]].assign(height=1.0, more="text").head(30)
    other.loc[3, "colour"] = "violet"
    spec = f"table:{write(other, tmp_path / 'other.csv')}"
    splits = build_splits(config(path, split="part", far=[spec]))
    train = frame[frame.part == "train"]
    torch.testing.assert_close(ood(splits).inputs, torch.from_numpy(oracle(train, other)))
    assert splits.ood[0].name == "table_other"
    assert splits.remarks == (
        "table_other: categories that ID train lacks, taken as zeros: 1 in 'colour'",
    )
    write(other.rename(columns={"height": "heigth"}), tmp_path / "other.csv")
    assert "has no column 'height'; did you mean 'heigth'?" in refused(
        path, split="part", far=[spec]
    )
    write(other.assign(height=["1"] * 29 + ["tall"]), tmp_path / "other.csv")
    text = refused(path, split="part", far=[spec])
    assert "other.csv: row 29, column 'height': found 'tall', allowed: a number, or nothing" in text


def test_a_test_part_of_its_own(frame: pd.DataFrame, tmp_path: Path) -> None:
    train, test = frame[:90], frame[90:].assign(colour="violet")
    path = write(train, tmp_path / "train.csv")
    splits = build_splits(config(path, test=str(write(test, tmp_path / "test.csv"))))
    assert len(splits.train) + len(splits.calibration) == 90
    assert len(splits.test) == 30
    assert splits.test.inputs[:, 2:].abs().sum() == 0
    assert "found split and test, allowed: one" in refused(path, test="x", split="owner")
    assert "is absent; " in refused(path, test=str(tmp_path / "no.csv"))


def test_groups_are_never_parted(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["number"] = np.arange(len(frame))
    path = write(frame, tmp_path / "my.csv")
    keep = {"drop": ["height", "time", "colour"]}
    splits = build_splits(config(path, group="owner", **keep))
    encoder = splits.encoder
    assert encoder is not None
    (column,) = encoder.columns
    owners = []
    for part in (splits.train, splits.calibration, splits.test):
        numbers = (part.inputs[:, 0].double() * column.scale + column.mean).round()  # type: ignore
        owners.append({int(number) // 4 for number in numbers})
    assert sum(map(len, owners)) == len(set.union(*owners)) == 30
    assert [len(part) for part in owners] == [18, 6, 6]


def test_held_out_rows_of_known_groups_are_left_out(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(frame, tmp_path / "my.csv")
    values: dict[str, Any] = {"hold_out": ["bee"], "near": ["held_out"], "group": "owner"}
    splits = build_splits(config(path, drop=[], **values))
    # Every owner has bees: those of owners in train or calibration are known already.
    assert 0 < len(ood(splits)) < 40
    split(frame.assign(owner="all")).to_csv(path, index=False)
    text = refused(path, drop=[], group="owner", split="part")
    assert "data.group: 24 rows of the test split" in text
    assert "belong to groups of another split; allowed: each group in one" in text


def test_a_remark_names_the_columns_that_lack_most() -> None:
    seen = Seen()
    seen.missing.update({f"column {i}": i for i in range(8)})
    assert seen.remarks("ID") == [
        "ID: missing numbers, taken as the mean of ID train: 7 in 'column 7', 6 in 'column 6', "
        "5 in 'column 5', 4 in 'column 4', 3 in 'column 3' and others in 2 more columns"
    ]


def test_an_encoder_is_plain_values(frame: pd.DataFrame) -> None:
    frame["colour"] = frame["colour"].astype("category")
    encoder = TableEncoder.fitted(frame[["height", "colour"]])
    again = TableEncoder.from_json(json.loads(json.dumps(encoder.to_json())), source="x.json")
    assert again == encoder
    assert encoder.width == 4
    assert torch.equal(again.encode(frame, Seen()), encoder.encode(frame, Seen()))
    with pytest.raises(ArtifactError, match=r"x\.json: is damaged"):
        TableEncoder.from_json({"format": "other"}, source="x.json")


@pytest.mark.parametrize("value", [3.5, 0.1, 1e17])  # mean and deviation of the last are rounded
def test_a_column_without_spread_has_deviation_1(
    frame: pd.DataFrame, tmp_path: Path, value: float
) -> None:
    frame = pd.concat([frame] * 8).assign(height=value)
    splits = build_splits(config(write(frame, tmp_path / "my.csv")))
    assert splits.train.inputs[:, 0].abs().sum() == 0
    assert splits.encoder is not None
    column = splits.encoder.to_json()["columns"][0]
    assert column == {"name": "height", "mean": value, "scale": 1.0}


def test_numbers_may_be_categories(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["wheels"] = np.arange(len(frame)) % 4
    path = write(frame, tmp_path / "my.csv")
    assert build_splits(config(path)).train.inputs.shape[1] == 6
    assert build_splits(config(path, categories=["wheels"])).train.inputs.shape[1] == 9


def test_csv_of_other_lands(frame: pd.DataFrame, tmp_path: Path) -> None:
    plain = build_splits(config(write(frame, tmp_path / "my.csv")))
    frame.to_csv(tmp_path / "my.csv", index=False, sep=";", encoding="utf-8-sig")
    other = build_splits(config(tmp_path / "my.csv"))
    assert torch.equal(plain.train.inputs, other.train.inputs)


def test_the_row_that_is_no_utf8_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(frame.assign(owner="plain"), tmp_path / "my.csv")
    lines = path.read_text().splitlines()
    for row, place in ((-1, "its first line"), (3, "row 3"), (119, "row 119")):
        changed = [*lines]
        changed[row + 1] = f"{changed[row + 1]}é"
        path.write_bytes("\n".join(changed).encode("latin-1"))
        assert refused(path) == (
            f"{path}: {place}: found byte 0xe9, allowed: UTF-8, as `iconv -f LATIN1 -t UTF-8` "
            "makes it of older files"
        )


def test_tabs_make_the_same_table(frame: pd.DataFrame, tmp_path: Path) -> None:
    plain = build_splits(config(write(frame, tmp_path / "my.csv")))
    frame.to_csv(tmp_path / "my.tsv", index=False, sep="\t")
    assert torch.equal(build_splits(config(tmp_path / "my.tsv")).train.inputs, plain.train.inputs)


@pytest.mark.parametrize(("first", "step"), [(1, 1), (0, 10), (500, -1)])
def test_a_column_that_numbers_the_rows_is_told(
    frame: pd.DataFrame, tmp_path: Path, first: int, step: int
) -> None:
    path = write(frame.assign(id=first + step * np.arange(len(frame))), tmp_path / "my.csv")
    told = "ID: column 'id' numbers the rows; data.drop=[id] leaves it out"
    assert told in build_splits(config(path)).remarks
    assert build_splits(config(path, drop=["owner", "id"])).remarks == ()


def test_names_of_columns_may_be_numbers(frame: pd.DataFrame, tmp_path: Path) -> None:
    names = {"height": "2024", "time": "2025", "colour": "2026", "kind": "2027"}
    path = write(frame.rename(columns=names), tmp_path / "my.csv")
    assert build_splits(config(path, target=2027)).train.inputs.shape[1] == 5
    splits = build_splits(config(path, target=2027, drop=["owner", 2026]))
    assert splits.train.inputs.shape[1] == 2


def test_blocks_make_the_same_table(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(frame, tmp_path / "my.csv")
    whole = build_splits(config(path, far=[f"table:{path}"[:-4] + ".parquet"][:0]))
    monkeypatch.setattr(table_files, "BLOCK", 7)
    assert torch.equal(build_splits(config(path)).train.inputs, whole.train.inputs)
    text = "my.csv: row 100, column 'height': found 'x', allowed: a number as in 119 other rows"
    frame["height"] = frame["height"].astype(object)
    frame.loc[100, "height"] = "x"
    assert text in refused(write(frame, path))


@pytest.mark.parametrize(
    ("content", "values", "words"),
    [
        ("a,kind\n1,x\n", {"target": "kine"},
         "data.target: {0} has no column 'kine'; did you mean 'kind'? Allowed: a, kind"),
        ("a,kind\n1,x\n", {"group": "b"}, "data.group: {0} has no column 'b'"),
        ("a,kind\n1,x\n", {"split": "b"}, "data.split: {0} has no column 'b'"),
        ("a,kind\n1,x\n", {"drop": ["b"]}, "data.drop: {0} has no column 'b'"),
        ("a,kind\n1,x\n", {"categories": ["b"]}, "data.categories: {0} has no column 'b'"),
        ("a,kind\n1,x\n", {"drop": ["a"]}, "{0}: has no column beside the target"),
        ("a,kind\n", {}, "{0}: holds no row below the names of its columns"),
        ("", {}, "{0}: is empty, allowed: the names of the columns"),
        ("1,2\n3,4\n", {}, "{0}: its first line holds numbers, allowed: the names of the columns"),
        ("T,2,8,8\nI,5,1,2\n", {},
         "{0}: its first line holds '8' twice, allowed: the names of the columns; a file without "
         "them needs a line of them above the others"),
        ("5.1,3.5,setosa\n4,3,setosa\n", {}, "{0}: its first line holds numbers, allowed: the"),
        ("a,kind\n1,2026-01-03\n2,2026-02-01 10:30\n", {},
         "data.target: {0}: row 0: found '2026-01-03', a date, allowed: names or whole numbers"),
        ("a,kind\n1,31.12.2025\n2,1.1.2026\n", {}, "row 0: found '31.12.2025', a date"),
        ("a,kind\n1,x\n2,\n", {}, "data.target: {0}: row 1: found nothing, allowed: a class"),
        ("a,kind\n1,0.5\n2,1.5\n", {}, "data.target: {0}: row 0: found 0.5, allowed: names or"),
        ("a,kind\n1,x\n2,x,3\n", {},
         "{0}: row 1: found 3 cells between commas, allowed: 2, as there are names"),
        ("a,kind\n1,x\nabc,y\n2,x\n", {},
         "{0}: row 1, column 'a': found 'abc', allowed: a number as in 2 other rows, or nothing; "
         "data.categories=[a] takes the column as categories, data.drop=[a] leaves it out"),
        ("a,kind,s\n1,x,train\n2,y,tset\n", {"split": "s"},
         "data.split: {0}: row 1: found 'tset', allowed: train, calibration, test"),
        ("a,kind,s\n1,x,train\n2,y,train\n", {"split": "s"}, "no row is in the part 'test'"),
        ("a,kind,g\n1,x,1\n2,y,\n", {"group": "g"}, "data.group: {0}: row 1: found nothing"),
        ("a,kind\n" + "1,x\n,y\n" * 20, {"split_seed": 0, "hold_out": ["x"]},
         "fewer than two classes"),
        ("a,b,kind\n" + ",1,x\n,2,y\n" * 20, {},
         "column 'a' holds nothing in ID train; data.drop=[a] leaves it out"),
        ("a,kind\n" + "1,x\n2,y\n" * 20 + "3,z\n", {"split_seed": 1},
         "class 'z' of 'table:{0}' has 1 row; allowed: two or more, one of them in train, or "
         "data.hold_out=[z]"),
        ("a,kind,s\n" + "1,x,train\n2,y,train\n3,x,test\n4,z,test\n5,z,test\n" * 9,
         {"split": "s"}, "class 'z' of 'table:{0}' has 18 rows, none of them in the train split"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_told(
    tmp_path: Path, content: str, values: dict[str, Any], words: str
) -> None:
    path = tmp_path / "my.csv"
    path.write_text(content)
    assert words.format(path) in refused(path, **{"drop": [], **values})


def test_texts_of_every_kind_are_no_categories(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame = pd.concat([frame] * 4).assign(name=lambda f: [f"name {i}" for i in range(len(f))])
    text = refused(write(frame, tmp_path / "my.csv"))
    assert "column 'name' has 288 categories, such as 'name 99', allowed: 256" in text
    assert "data.drop=[name] leaves it out" in text
    frame = frame.assign(name=pd.Timestamp("2026-01-01"))
    text = refused(write(frame, tmp_path / "my.parquet"))
    assert "column 'name' holds timestamp" in text
    assert "data.drop=[name] leaves out what is no target" in text
    path = write(frame, tmp_path / "my.parquet")
    far = write(frame.iloc[::2], tmp_path / "far.parquet")
    splits = build_splits(config(path, drop=["owner", "name"], far=[f"table:{far}"]))
    assert splits.encoder is not None and "name" not in splits.encoder.names


def test_missing_words_are_missing_in_parquet_as_in_csv(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    frame.loc[::5, "colour"] = np.resize(["?", "NA", ""], len(frame[::5]))
    frame["size"] = np.where(np.arange(len(frame)) % 4, "1.5", "?")
    first, second = (
        build_splits(config(write(frame, tmp_path / f"my{suffix}")))
        for suffix in (".csv", ".parquet")
    )
    assert first.encoder == second.encoder
    assert first.remarks == second.remarks and "in 'size'" in first.remarks[0]
    assert torch.equal(first.train.inputs, second.train.inputs)
    frame = frame.assign(colour=frame["colour"].astype("category"))
    assert build_splits(config(write(frame, tmp_path / "my.parquet"))).encoder == first.encoder


@pytest.mark.parametrize("first", ["1,5", "1,234", "1,234,567.8", "1.234.567", "1.234,5", "1'234"])
def test_other_separators_than_a_decimal_point_are_told(tmp_path: Path, first: str) -> None:
    path = tmp_path / "my.csv"
    path.write_text("size;kind\n" + f"{first};x\n-2,25;y\n3;x\n" * 20)
    assert refused(path, drop=[]) == (
        f"{path}: row 0, column 'size': found {first!r}, allowed: numbers with a decimal point and "
        "nothing between thousands; data.categories=[size] takes the column as categories"
    )
    assert build_splits(config(path, drop=[], categories=["size"])).encoder is not None


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize(
    ("dtype", "integer", "exact"),
    [
        ("Int64", 2**53 + 1, 2**53 + 2),
        ("Int64", -(2**53) - 1, -(2**53) - 2),
        ("Int64", 2**63 - 1, 2**62),
        ("UInt64", 2**64 - 1, 2**63),
    ],
)
def test_integers_that_float64_cannot_hold_are_told(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    suffix: str, dtype: str, integer: int, exact: int,
) -> None:  # fmt: skip
    assert int(float(integer)) != integer and int(float(exact)) == exact
    monkeypatch.setattr(table_files, "BLOCK", 50)
    values = [None, 2**53, exact] * (len(frame) // 3)
    frame["card"] = pd.array(values, dtype)
    good = write(frame, tmp_path / f"good{suffix}")
    assert build_splits(config(good)).train.inputs.shape[1] == 6
    values[70] = integer
    frame["card"] = pd.array(values, dtype)
    path = write(frame, tmp_path / f"my{suffix}")
    text = (
        f"{path}: row 70, column 'card': found {integer}, allowed: integers that float64 holds "
        "exactly, as all up to 9,007,199,254,740,992; data.categories=[card] takes the column as "
        "categories, data.drop=[card] leaves it out"
    )
    assert text in refused(path)
    assert text in refused(good, far=[f"table:{path}"])
    # What the message offers helps; neighbours stay apart as categories.
    assert build_splits(config(path, drop=["owner", "card"])).train.inputs.shape[1] == 5
    table, _ = table_files.read_table([path], ["card"], [])
    assert set(table["card"].cat.categories) == {str(2**53), str(exact), str(integer)}
    assert build_splits(config(path, categories=["card"])).encoder is not None


@pytest.mark.parametrize("power", [300, -200])
def test_a_deviation_beyond_float64_is_told_by_its_column(
    frame: pd.DataFrame, tmp_path: Path, power: int
) -> None:
    frame["mole"] = np.resize([float(f"1e{power}"), float(f"-3e{power}")], len(frame))
    path = write(frame, tmp_path / "my.csv")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(path) == (
            f"table:{path}: column 'mole' holds numbers from -3e{power:+} to 1e{power:+}, "
            "allowed: those whose deviation float64 holds; data.drop=[mole] leaves it out"
        )
    assert build_splits(config(path, drop=["owner", "mole"])).train.inputs.shape[1] == 5


def test_a_number_too_far_from_id_train_is_told_by_its_column(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    path = write(frame, tmp_path / "my.csv")
    far = write(frame.assign(time=frame["time"].where(frame.index != 7, 1e300)), tmp_path / "f.csv")
    what = (
        "column 'time': found a number that is infinite in deviations of ID train, allowed: finite "
        "float32 values"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(path, test=str(far)) == f"table:{path}: {what}"
        text = refused(path, far=[f"table:{far}"])
        assert text == f"data: the set 'table:{far}': {far}: row 7, {what}"
        encoder = build_splits(config(path)).encoder
        assert encoder is not None
        source = open_inputs(str(far), (5,), encoder=encoder)
        with pytest.raises(InputError) as caught:
            list(source.read(0))
    assert str(caught.value) == f"{far}: row 7, {what}; --skip-bad leaves it out"
    (batch,) = open_inputs(str(far), (5,), encoder=encoder, skip_bad=True).read(0)
    assert batch.skipped == (f"{far}: row 7, {what}",)
    assert len(batch.inputs) == len(frame) - 1


SKIP = "; --skip-bad leaves it out"


@pytest.mark.slow
@pytest.mark.parametrize("rows", [2, 1000])  # a block
def test_rows_that_cannot_be_read_are_left_out_by_name(
    frame: pd.DataFrame, tmp_path: Path, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = build_splits(config(write(frame, tmp_path / "my.csv"))).encoder
    assert encoder is not None
    monkeypatch.setattr(table_files, "BLOCK", rows)
    lines = (tmp_path / "my.csv").read_text().splitlines()
    lines[1 + 3] = "old" + lines[1 + 3][lines[1 + 3].index(",") :]
    lines[1 + 5] += ",more"
    lines[1 + 8] = lines[1 + 8].replace(lines[1 + 8].split(",")[1], "inf")
    far = tmp_path / "far.csv"
    far.write_text("\n".join(lines) + "\n")
    reasons = {
        3: "row 3, column 'height': found 'old', allowed: a number, or nothing",
        5: "row 5: found 6 cells between commas, allowed: 5, as there are names",
        8: "row 8, column 'time': found 'inf', allowed: a number, or nothing",
    }
    with pytest.raises(InputError) as caught:
        read_inputs(str(far), (5,), encoder=encoder)
    assert str(caught.value) == f"{far}: {reasons[3 if rows == 2 else 5]}{SKIP}"
    found = read_inputs(str(far), (5,), encoder=encoder, skip_bad=True)
    assert found.skipped == tuple(f"{far}: {reason}" for reason in reasons.values())
    kept = [row for row in range(len(frame)) if row not in reasons]
    assert found.ids == [str(row) for row in kept]
    whole = read_inputs(str(tmp_path / "my.csv"), (5,), encoder=encoder)
    assert torch.equal(found.inputs, whole.inputs[kept])
    assert open_inputs(str(far), (5,), encoder=encoder, skip_bad=True).remarks == ()
    with pytest.raises(InputError) as caught:
        build_splits(config(far))
    assert SKIP not in str(caught.value)


def test_texts_among_the_numbers_of_a_parquet_file_are_left_out_by_name(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    encoder = build_splits(config(write(frame, tmp_path / "my.csv"))).encoder
    texts = frame["height"].astype(str).where(frame.index != 3, "old")
    path = write(frame.assign(height=texts), tmp_path / "far.parquet")
    found = read_inputs(str(path), (5,), encoder=encoder, skip_bad=True)
    assert found.skipped == (
        f"{path}: row 3, column 'height': found 'old', allowed: a number, or nothing",
    )
    whole = read_inputs(str(tmp_path / "my.csv"), (5,), encoder=encoder)
    assert torch.equal(found.inputs, whole.inputs[[n for n in range(len(frame)) if n != 3]])


def test_an_array_beside_a_table_is_told_to_be_taken_as_encoded(
    frame: pd.DataFrame, tmp_path: Path
) -> None:
    path, array = write(frame, tmp_path / "my.csv"), tmp_path / "x.npy"
    np.save(array, np.zeros((40, 5), np.float32))
    np.savez(tmp_path / "x.npz", x=np.zeros((40, 5), np.float32))
    splits = build_splits(config(path, far=[f"array:{array}"]))
    assert any("array, whose rows are taken as encoded already" in each for each in splits.remarks)
    for name in ("x.npy", "x.npz"):
        source = str(tmp_path / name)
        (told,) = open_inputs(source, (5,), encoder=splits.encoder).remarks
        assert told.startswith(f"{source} is an array, whose rows are taken as encoded already")
        assert not open_inputs(source, (5,)).remarks
    assert not open_inputs(str(path), (5,), encoder=splits.encoder).remarks


def test_texts_that_may_be_no_categories_are_told(frame: pd.DataFrame, tmp_path: Path) -> None:
    number = np.arange(len(frame))
    frame = split(frame).assign(
        day=[f"2026-{1 + i % 3:02}-{1 + i % 28:02}" for i in number],
        share=[f"{i % 50}.5%" for i in number],
        price=[f"$ {i % 3}" for i in number],
        code=[f"c{i % 40}" for i in number],
        grade=[f"{i % 3}{'AB'[i % 2]}" for i in number],  # units that differ are none
    )
    path = write(frame, tmp_path / "my.csv")
    told = {
        "day": "a date becomes numbers, such as a year, before it is an input; ",
        "share": "without '%' they are numbers; ",
        "price": "without '$' they are numbers; ",
        "code": "",
    }
    remarks = [r for r in build_splits(config(path, split="part")).remarks if "taken" in r]
    remarks = [r for r in remarks if "ID train lacks" not in r]
    train = frame[frame.part == "train"]
    assert remarks == [
        f"ID: column {name!r} is taken as {train[name].nunique()} categories in 72 rows of ID "
        f"train, such as {max(train[name])!r}; {hint}data.drop=[{name}] leaves it out, "
        f"data.categories=[{name}] keeps it"
        for name, hint in told.items()
    ]
    kept = build_splits(config(path, split="part", categories=["day", "code"], drop=["owner"]))
    assert not any("column 'day'" in r or "column 'code'" in r for r in kept.remarks)
    many = pd.concat([frame] * 4).assign(share=[f"{i}.5%" for i in range(480)], part="train")
    many.iloc[-30:, many.columns.get_loc("part")] = "test"
    text = refused(write(many, path), split="part")
    assert "column 'share' has 360 categories, such as '99.5%', allowed: 256; without '%'" in text


def test_large_numbers_written_as_floats_pass(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame["mole"] = np.resize(["6.02214076e23", "1e100", "-12345678901234567.8"], len(frame))
    assert build_splits(config(write(frame, tmp_path / "my.csv"))).train.inputs.shape[1] == 6


def test_a_class_with_a_comma_is_quoted(tmp_path: Path) -> None:
    path = tmp_path / "my.csv"
    path.write_text("a;kind\n" + "1;high, risk\n2;y\n3;z\n" * 20)
    text = refused(path, drop=[], hold_out=["high", "risk"])
    assert """-o 'data.hold_out=["high, risk"]'""" in text
    splits = build_splits(config(path, drop=[], hold_out=["high, risk"]))
    assert splits.classes == ("y", "z")


def test_a_table_that_takes_too_much_room_is_refused(
    frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(frame, tmp_path / "my.csv")
    monkeypatch.setattr(memory, "MAX_BYTES", 2000)
    assert f"{path}: takes 2,880 bytes in memory, allowed: 2,000" in refused(path)


def test_the_target_is_neither_group_nor_split(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(split(frame), tmp_path / "my.csv")
    assert "drop: found 'kind', the target, allowed: other columns" in refused(path, drop=["kind"])
    for key in ("group", "split"):
        text = f"{key}: found 'kind', the target, allowed: another column"
        assert text in refused(path, **{key: "kind"})
        with pytest.raises(ValidationError, match=f"{key}: found 'y', the target"):
            DataConfig.model_validate({"id": "array:x.npz", key: "y"})
    both, alone = (
        build_splits(config(path, split="part", group=group, drop=drop))
        for group, drop in (("part", ["owner"]), (None, ["owner"]))
    )
    assert torch.equal(both.train.inputs, alone.train.inputs)


def test_a_path_that_is_no_file_is_told_as_what_it_is(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(frame, tmp_path / "base.csv")
    (tmp_path / "bose.csv").mkdir()
    for spec, text in (
        (f"table:{tmp_path}", f": {tmp_path} is a folder, allowed: the path of a file"),
        (f"array:{tmp_path}", f": {tmp_path} is a folder, allowed: the path of a file"),
        (f"folder:{path}", f": {path} is a file, allowed: the path of a folder of images"),
        ("table:/dev/null", ": /dev/null is no file, allowed: the path of a file"),
        (
            f"table:{tmp_path}/bse.csv",
            " is absent; did you mean 'base.csv'? Allowed: the path of a file",
        ),
        (
            f"folder:{tmp_path}/bse.csv",
            " is absent; did you mean 'bose.csv'? Allowed: the path of a folder of images",
        ),
        (f"table:{path}/no/x.csv", " is absent; allowed: the path of a file"),
    ):
        assert refused(path, far=[spec]) == f"data: {spec}{text}"
    assert refused(path, test=f"{tmp_path}/Base.csv") == (
        f"data.test: table:{tmp_path}/Base.csv is absent; did you mean 'base.csv'? "
        "Allowed: the path of a file"
    )


def test_a_test_file_without_kept_classes_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(frame, tmp_path / "my.csv")
    test = write(frame[frame.kind == "bee"].assign(height=1.0), tmp_path / "test.csv")
    assert refused(path, test=str(test), hold_out=["bee"]) == (
        f"data: the test split of {str(test)!r} holds 0 samples of kept classes"
    )


def test_a_column_in_other_letters_is_the_nearest(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(frame.rename(columns={"height": "f2"}), tmp_path / "my.csv")
    far = write(frame.rename(columns={"height": "F2", "time": "f3"}), tmp_path / "far.csv")
    encoder = build_splits(config(path)).encoder
    with pytest.raises(InputError, match="has no column 'f2'; did you mean 'F2'\\? Found: F2, "):
        open_inputs(str(far), (5,), encoder=encoder)


def test_measurements_are_no_classes(frame: pd.DataFrame, tmp_path: Path) -> None:
    frame = pd.concat([frame] * 9, ignore_index=True)
    frame["kind"] = range(len(frame))
    text = refused(write(frame, tmp_path / "my.csv"))
    assert "found 1,080 classes, allowed: 1,000; measurements are no classes" in text


def test_keys_of_a_table_need_one(tmp_path: Path) -> None:
    for values, words in (
        ({"id": "digits", "target": "x"}, "target is for data.id array:PATH or table:PATH"),
        ({"id": "array:x.npz", "drop": ["x"]}, "drop is for data.id table:PATH, found 'array:"),
        ({"id": "table:x.csv"}, "target is missing: the column of a table"),
        ({"id": "table:", "target": "x"}, "the set 'table' needs a path, as in table:PATH"),
    ):
        with pytest.raises(ValidationError) as caught:
            DataConfig.model_validate(values)
        assert words in str(caught.value)


def test_tables_have_no_image_size(frame: pd.DataFrame, tmp_path: Path) -> None:
    text = refused(write(frame, tmp_path / "my.csv"), image_size=8)
    assert "data.image_size: found 8, allowed: none, since ID data are no images" in text


def test_a_table_is_no_outlier_of_pictures(frame: pd.DataFrame, tmp_path: Path) -> None:
    path = write(frame, tmp_path / "my.csv")
    with pytest.raises(InputError, match="is a table, allowed: inputs of the kind of the ID set"):
        build_splits(DataConfig(id="digits", far=(f"table:{path}",)))
