"""Sets that other packages carry: in files that the tests write, and as they are where present."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rdata

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.data import kinds, wheels
from nervecode.lab.data import locate as locating
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.locate import VARIABLE, locate
from nervecode.lab.data.registry import DATASETS
from nervecode.lab.data.splits import build_splits
from nervecode.lab.data.uci_files import UCI_TABLES
from nervecode.lab.schema import DataConfig

PRESETS = ("letter", "satellite", "shuttle", "vehicle", "vowel", "japanese_vowels")
# Rows, features and classes as UCI's pages state them; of series, both parts, channels and steps.
KNOWN = {
    "letter": (20_000, (16,), 26),
    "satellite": (6_435, (36,), 6),
    "shuttle": (58_000, (9,), 7),
    "vehicle": (846, (18,), 4),
    "vowel": (990, (9,), 11),
    "japanese_vowels": (640, (12, 25), 9),
    "basic_motions": (80, (6, 100), 4),
    "osu_leaf": (442, (1, 427), 6),
    "acsf1": (200, (1, 1460), 10),
    "arrow_head": (211, (1, 251), 3),
    "pickup_gesture": (100, (1, 361), 10),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of fetched data in which nothing is but what a test writes."""
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    return tmp_path


def test_a_table_of_r_is_read_with_its_levels(root: Path) -> None:
    kinds = pd.Categorical(["van", "bus", "bus", "saab"], categories=["bus", "saab", "van"])
    frame = pd.DataFrame({"Comp": [1.0, 2.0, 3.0, 4.0], "Circ": [0.5, 0.25, 0.0, -1.0]})
    frame["Class"] = kinds
    (root / "r-cran-mlbench").mkdir()
    path = root / "r-cran-mlbench/Vehicle.rda"
    rdata.write_rda(path, {"Vehicle": frame.reset_index(drop=True)})
    found = DATASETS["vehicle"]()
    assert found.classes == ("bus", "saab", "van")
    assert found.train.inputs.tolist() == frame[["Comp", "Circ"]].to_numpy().tolist()
    assert found.train.labels.tolist() == [2, 0, 0, 1]
    path.write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"Vehicle\.rda: not a readable table .* r-cran-mlbench"):
        DATASETS["vehicle"]()


UCI = {
    "letter": {
        "letter-recognition.data": "T,2,8,3,5,1,8,13,0,6,6,10,8,0,8,0,8\nA" + ",1" * 16 + "\n"
    },
    "satellite": {"sat.trn": f"{'92 ' * 36}3\n{'1 ' * 36}7\n", "sat.tst": f"{'0 ' * 36}1\n"},
    "shuttle": {"shuttle.trn": f"{'50 ' * 9}2\n", "shuttle.tst": f"{'-6 ' * 9}4 \n"},
    "vehicle": {f"xa{letter}.dat": f"{'95 ' * 18}van \n" for letter in "abcdefghi"},
    "vowel": {"vowel-context.data": f"0  0 1  {'-3.639 ' * 9}-0.814 0\n1 14 1 {'0.5 ' * 10}10\n"},
}
READ = {  # the sum of each row, and its class
    "letter": ([86, 16], ["T", "A"]),
    "satellite": ([92 * 36, 36, 0], ["grey soil", "very damp grey soil", "red soil"]),
    "shuttle": ([450, -54], ["Fpv.Close", "High"]),
    "vehicle": ([95 * 18] * 9, ["van"] * 9),
    "vowel": ([-3.639 * 9, 4.5], ["hid", "hed"]),
}


def put(root: Path, name: str) -> Path:
    (root / name).mkdir()
    for file, text in UCI[name].items():
        (root / name / file).write_text(text)
    return root / name


@pytest.mark.parametrize("name", UCI)
def test_files_of_uci_serve_in_the_place_of_the_package(
    name: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kinds, "find_spec", lambda package: None)  # no rdata is needed
    folder = put(root, name)
    assert locate(name) == locating.Location(name, True, str(folder))
    found = DATASETS[name]()
    sums, classes = READ[name]
    assert found.train.inputs.shape[1:] == KNOWN[name][1]
    assert np.allclose(found.train.inputs.sum(1), sums)
    assert [found.classes[label] for label in found.train.labels] == classes
    assert len(found.classes) == KNOWN[name][2]
    (folder / list(UCI[name])[-1]).unlink()
    assert not (locate(name).present and locate(name).where == str(folder))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A,1,2\n", "letter-recognition.data: row 0: found 3 cells, allowed: 17"),
        ("A" + ",1" * 16 + "\nÄ" + ",1" * 16, "cannot be read ('ascii' codec"),
        ("a" + ",1" * 16, "row 0: found the class 'a', allowed: A, B"),
        ("A" + ",1" * 15 + ",x", "row 0: found no number (could not convert string"),
        ("A" + ",1" * 15 + ",inf", "row 0: found no finite number"),
        ("\n", "holds no row"),
    ],
)
def test_what_is_no_file_of_uci_is_told(text: str, words: str, root: Path) -> None:
    (put(root, "letter") / "letter-recognition.data").write_text(text)
    with pytest.raises(InputError) as told:
        DATASETS["letter"]()
    assert words in str(told.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", UCI)
def test_classes_of_uci_are_those_of_mlbench(name: str) -> None:
    if not locate(name).present or locating.plain_folder(name):
        pytest.skip(f"{name} of mlbench is not on this machine")
    assert DATASETS[name]().classes == tuple(UCI_TABLES[name].classes.values())


def test_series_keep_their_published_parts(root: Path) -> None:
    folder = root / "aeon/datasets/data/BasicMotions"
    folder.mkdir(parents=True)
    for part, rows in (("TRAIN", "1,2:3,4:10\n5,6:7,8:9\n"), ("TEST", "0,0:1,1:9\n")):
        text = f"@classLabel true 9 10\n@data\n{rows}"
        (folder / f"BasicMotions_{part}.ts").write_text(text)
    found = DATASETS["basic_motions"]()
    assert found.classes == ("9", "10")
    assert found.train.inputs.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    assert found.train.labels.tolist() == [1, 0]
    assert found.test is not None and found.test.labels.tolist() == [0]
    (folder / "BasicMotions_TEST.ts").write_text("@classLabel false\n@data\n0,0:1,1\n")
    with pytest.raises(InputError, match="has no classes"):
        DATASETS["basic_motions"]()


def absent(name: str) -> str:
    with pytest.raises(NervecodeError) as caught:
        build_splits(DataConfig(id=name))
    return str(caught.value)


def test_what_installs_an_absent_set_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "find_spec", lambda package: None)
    assert absent("osu_leaf") == (
        f"data: osu_leaf is absent from {root}/aeon/datasets/data/OSULeaf; "
        "get it: pip install --no-deps aeon"
    )
    if not Path("/usr/lib/R/site-library/mlbench").exists():
        text = absent("letter")
        assert f"data: letter is absent from {root}/letter/usr/lib/R/site-library" in text
        assert "get it: apt install r-cran-mlbench, or: apt-get download" in text
        assert text.endswith(f", or put letter-recognition.data of UCI into {root}/letter")
        assert "or put xaa.dat to xai.dat of UCI into" in absent("vehicle")
    monkeypatch.setattr(kinds, "find_spec", lambda package: None)
    assert absent("letter") == (
        "data: letter is absent from this environment, which lacks rdata; "
        "get it: pip install -e '.[tables]' in the checkout"
    )


@pytest.mark.parametrize(
    ("name", "files"),
    [
        ("letter", ", or put letter-recognition.data of UCI into {}/letter"),
        ("satellite", ", or put sat.trn and sat.tst of UCI into {}/satellite"),
        ("vehicle", ", or put xaa.dat to xai.dat of UCI into {}/vehicle"),
        ("fortunes", ""),
    ],
)
def test_what_gets_a_package_of_the_system(name: str, files: str, tmp_path: Path) -> None:
    kind = CATALOGUE[name].kind
    assert kind is not None
    install, _, otherwise = kind.command(name, tmp_path).partition(", or: apt-get download ")
    assert kind.command(name, None) == install
    assert install.startswith("apt install ")
    package = install.removeprefix("apt install ")
    unpack = f"{package} && dpkg -x *.deb {tmp_path / package}"
    assert otherwise == unpack + files.format(tmp_path)


@pytest.mark.parametrize("name", KNOWN)
def test_the_sets_have_the_sizes_that_are_published(name: str) -> None:
    if not locate(name).present:
        pytest.skip(f"{name} is not on this machine")
    found = DATASETS[name]()
    parts = [found.train, *([found.test] if found.test else [])]
    rows, shape, classes = KNOWN[name]
    assert sum(map(len, parts)) == rows
    assert {tuple(part.inputs.shape[1:]) for part in parts} == {shape}
    assert len(found.classes) == classes
    assert all(np.isfinite(part.inputs.numpy()).all() for part in parts)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_holds_out_classes_of_its_set(name: str) -> None:
    data = resolve(preset=name).config.data
    assert data.near == ("held_out",)
    if not locate(data.id).present:
        pytest.skip(f"{data.id} is not on this machine")
    splits = build_splits(data, limit_eval=50)
    assert len(splits.classes) == KNOWN[name][2] - len(data.hold_out)
    assert len(splits.ood[0].samples) == 50
    assert len(splits.calibration) > 99
