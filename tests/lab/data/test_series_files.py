"""Series in `.ts` files: what their header says holds, or is told with file and line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from nervecode.errors import InputError
from nervecode.lab.data.by_path import series_files
from nervecode.lab.data.by_path.series_files import read_ts
from nervecode.lab.data.splits import Splits, build_splits
from nervecode.lab.inference.open import open_inputs
from nervecode.lab.schema import DataConfig
from tests.lab.inference.reading import read_inputs

TS = """# comment
@problemName mine
@timeStamps false
@missing false
@univariate false
@dimensions 2
@equalLength true
@seriesLength 3
@classLabel true walk run
@data
1,2,3:4,5,6:walk
7,8,9:10,11,12:run
"""
INPUTS = np.arange(1, 13).reshape(2, 2, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "mine.ts"


def splits_of(path: Path, **values: str) -> Splits:
    return build_splits(DataConfig.model_validate({"id": f"series:{path}", **values}))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("", ""),
        ("@classLabel true", "@classLabel\ttrue"),
        ("@classLabel true", "@CLASSLABEL   True"),
        ("@dimensions", "@dimension"),
        ("@classLabel true walk run", "@classLabel true"),
        ("@missing false\n@univariate false\n@dimensions 2\n@equalLength true\n"
         "@seriesLength 3\n", ""),
        ("@equalLength true\n@seriesLength 3\n", "@equalLength false\n"),
        ("@data\n", "@data\n# comment\n\n  \n% comment\n"),
        ("7,8", "\n# comment\n 7, 8"),
        ("@problemName mine", "@problemName mine\n@problemName again"),
        ("@missing false", "@missing True"),
        ("# comment", "\ufeff# comment"),
        ("\n", "\r\n"),
        ("\n", "\r"),
    ],
)  # fmt: skip
def test_a_header_is_read_in_every_spelling(path: Path, old: str, new: str) -> None:
    path.write_text(TS.replace(old, new), newline="", encoding="utf-8")
    inputs, classes = read_ts(path)
    assert inputs.dtype == np.float32 and inputs.tolist() == INPUTS.tolist()
    assert classes is not None and classes.tolist() == ["walk", "run"]


@pytest.mark.parametrize("seed", range(12))
def test_what_is_written_is_read(path: Path, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, [6, 4, 8]))
    series = (random.normal(size=shape) * 10.0 ** random.integers(-30, 30, shape)).astype("f4")
    names = random.choice(["a", "b c", "7"], len(series)).tolist()
    header = {
        "problemName": "mine", "timeStamps": "false", "missing": "FALSE", "equalLength": "true",
        "univariate": str(shape[1] == 1), "dimension": shape[1], "seriesLength": shape[2],
        "classLabel": "True a b c 7",
    }  # fmt: skip
    lines = []
    for key in random.permutation(list(header)):
        case = random.choice([str.lower, str.upper, str])
        lines.append(f"@{case(key)}{random.choice([' ', '  ', chr(9)])}{header[key]}")
    lines.append("@data")
    for channels, name in zip(series, names, strict=True):
        values = [",".join(repr(float(value)) for value in channel) for channel in channels]
        lines.append(f"{':'.join(values)}:{name}")
        lines += ["", "# comment"][: random.integers(0, 3)]
    path.write_text("\n".join(lines))
    inputs, classes = read_ts(path)
    np.testing.assert_array_equal(inputs, series)
    assert classes is not None and classes.tolist() == names


def test_classes_are_numbers_or_several_words_as_the_header_lists_them(path: Path) -> None:
    for listed, classes in (("1 2.0", ["1.0", "2"]), ("fast walk run", ["fast walk", "run"])):
        text = TS.replace("true walk run", f"true {listed}")
        path.write_text(text.replace(":walk", f":{classes[0]}").replace(":run", f":{classes[1]}"))
        names = read_ts(path)[1]
        assert names is not None and names.tolist() == classes


@pytest.mark.parametrize("label", ["@classLabel false", "@targetLabel false"])
def test_series_without_classes(path: Path, label: str) -> None:
    plain = TS.replace("@classLabel true walk run", label).replace(":walk", "").replace(":run", "")
    path.write_text(plain)
    inputs, classes = read_ts(path)
    assert inputs.tolist() == INPUTS.tolist() and classes is None
    with pytest.raises(InputError, match="has no classes, allowed as ID data: a set with classes"):
        splits_of(path)


def test_series_are_split_by_their_classes(path: Path) -> None:
    lines = TS.splitlines(keepends=True)
    path.write_text("".join(lines[:-2]) + "".join(lines[-2:]) * 20)
    splits = build_splits(DataConfig(id=f"series:{path}"))
    assert splits.classes == ("run", "walk")
    assert splits.train.inputs.shape[1:] == (2, 3)


FILL = "allowed: a finite float32; what is missing has to be filled in"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        # What the values are.
        ("11", "x", f"line 12 (row 1), channel 1: found 'x' at step 1, {FILL}"),
        ("11", "NaN", f"line 12 (row 1), channel 1: found 'NaN' at step 1, {FILL}"),
        ("11", "?", f"line 12 (row 1), channel 1: found '?' at step 1, {FILL}"),
        ("11", "", f"line 12 (row 1), channel 1: found '' at step 1, {FILL}"),
        ("11", "1e300", f"line 12 (row 1), channel 1: found '1e300' at step 1, {FILL}"),
        ("1,2,3:", "\n1,?,3:", f"line 12 (row 0), channel 0: found '?' at step 1, {FILL}"),
        # How many there are.
        ("10,11,12", "10,11",
         "line 12 (row 1), channel 1: found 2 steps, allowed: 3, as in the header; cut or pad the "
         "series to one length"),
        ("@seriesLength 3", "@seriesLength 4",
         "line 11 (row 0), channel 0: found 3 steps, allowed: 4, as in the header"),
        ("7,8,9:", "", "line 12 (row 1): found 1 channels, allowed: 2, as in the header"),
        ("@dimensions 2", "@dimensions 3",
         "line 11 (row 0): found 2 channels, allowed: 3, as in the header"),
        ("@univariate false\n@dimensions 2", "@univariate true",
         "line 10 (row 0): found 2 channels, allowed: 1, as in the header"),
        ("1,2,3:4,5,6:walk\n7,8,9:10,11,12:run\n", "# nothing", "holds no series below @data"),
        # The classes.
        (":run", ":jump", "line 12 (row 1): found the class 'jump', which @classLabel does not "
         "list; Allowed: run, walk"),
        (":run", ":Run", "found the class 'Run', which @classLabel does not list; did you mean "
         "'run'?"),
        (":run", ":", "line 12 (row 1): found '', allowed: a class behind the last colon"),
        (":run", ":?", "line 12 (row 1): found '?', allowed: a class behind the last colon"),
        (":walk", "", "line 11 (row 0): found values behind the last colon, allowed there: a "
         "class"),
        ("@classLabel true walk run\n", "",
         "has no line @classLabel, allowed: @classLabel true and the classes, or @classLabel "
         "false"),
        ("@classLabel true walk run", "@targetLabel true",
         "line 9: has targets of a regression (@targetLabel true), allowed: classes (@classLabel "
         "true), or neither"),
        ("@classLabel true", "@targetlabel\tTRUE\n@classLabel true", "line 9: has targets of a"),
        # The header.
        ("Stamps false", "Stamps True",
         "line 3: has time stamps, allowed: values at equal steps alone"),
        ("@data\n", "", "line 10: found '1,2,3:4,5,6:walk' above a line @data, allowed there: "
         "lines that begin with @ or #"),
        ("@data\n1,2,3:4,5,6:walk\n7,8,9:10,11,12:run\n", "",
         "has no line @data, allowed: a .ts file"),
        ("@data", "@data 1,2", "line 10: found '1,2' behind @data, allowed: nothing"),
        ("@classLabel", "@classLabels", "line 9: unknown key @classLabels; did you mean "
         "'classLabel'? Allowed: classLabel, data"),
        ("@dimensions 2", "@", "line 6: unknown key @; Allowed: classLabel, data"),
        ("@missing false", "@missing", "line 4: @missing: found nothing, allowed: true or false"),
        ("@equalLength true", "@equalLength 1", "line 7: @equalLength: found 1, allowed: true or"),
        ("true walk", "walk", "line 9: @classLabel: found walk, allowed: true or false"),
        ("@dimensions 2", "@dimensions 0",
         "line 6: @dimension: found 0, allowed: a whole number above 0"),
        ("@seriesLength 3", "@seriesLength 3 4", "line 8: @seriesLength: found 3 4, allowed: a"),
        ("@seriesLength 3", "@dimension 3", "line 8: found @dimension a second time"),
        # The bytes.
        ("walk\n7", "w\0lk\n7", "line 11: found a NUL byte, allowed: text in UTF-8"),
        ("# comment", "# \udce9", "line 1: found byte 0xe9, allowed: UTF-8, as `iconv -f LATIN1"),
    ],
)  # fmt: skip
def test_what_will_not_do_is_told_with_its_line(path: Path, old: str, new: str, words: str) -> None:
    path.write_text(TS.replace(old, new, 1), errors="surrogateescape")
    with pytest.raises(InputError) as caught:
        read_ts(path)
    assert str(caught.value).startswith(f"{path}: ") and words in str(caught.value)


NEW = "@classLabel true walk run\n@data\n1,?:3,4:run\n1,2:3,4:?\n5,6:walk\n5,6:7,8:jump\n"


def test_new_series_are_read_without_their_classes_and_bad_ones_are_left_out_by_name(
    path: Path,
) -> None:
    path.write_text(NEW)
    reasons = (
        f"{path}: line 3 (row 0), channel 0: found '?' at step 1, allowed: a finite float32; what "
        "is missing has to be filled in",
        f"{path}: line 5 (row 2): found 1 channels, allowed: 2, as in row 0",
    )
    with pytest.raises(InputError) as caught:
        read_inputs(str(path), (2, 2))
    assert str(caught.value) == f"{reasons[0]}; --skip-bad leaves it out"
    found = read_inputs(str(path), (2, 2), skip_bad=True)
    assert found.skipped == reasons
    assert found.ids == ["1", "3"]
    assert found.inputs.tolist() == [[[1, 2], [3, 4]], [[5, 6], [7, 8]]]
    path.write_text(NEW.replace("run\n1,2:", "run\n1,x:").replace("5,6:", "5,:"))
    with pytest.raises(InputError) as caught:
        read_inputs(str(path), (2, 2), skip_bad=True)
    assert str(caught.value) == reasons[0]


def test_lengths_that_no_header_tells_are_those_of_the_first(path: Path) -> None:
    head = "@classLabel false\n@data\n"
    for series, words in (
        ("1,2:3,4\n1,2\n", "line 4 (row 1): found 1 channels, allowed: 2, as in row 0"),
        ("1,2:3\n", "line 3 (row 0), channel 1: found 1 steps, allowed: 2, as in row 0"),
        ("1,2\n1,2,3\n", "line 4 (row 1), channel 0: found 3 steps, allowed: 2, as in row 0"),
    ):
        path.write_text(head + series)
        with pytest.raises(InputError) as caught:
            read_ts(path)
        assert f"{path}: {words}" in str(caught.value)


def test_numbers_that_float32_does_not_tell_apart_are_told(path: Path) -> None:
    times = [",".join(str(1700000000000 + 1000 * k + i) for k in range(20)) for i in range(40)]
    lines = [f"{0.1 * i},{',1' * 19}:{t}:{'ab'[i % 2]}\n" for i, t in enumerate(times)]
    path.write_text("@classLabel true\n@data\n" + "".join(lines).replace(",,", ","))
    text = (
        "{}: numbers that differ are one in float32, which inputs are: channel 1; less an offset, "
        "they stay apart"
    )
    assert text.format("ID") in splits_of(path).remarks
    assert open_inputs(str(path), (2, 20)).remarks == (text.format(path),)
    path.write_text(TS)
    assert open_inputs(str(path), (2, 3)).remarks == ()


def test_files_that_are_none(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_ts(path)
    path.mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read_ts(path)
    path.rmdir()
    path.write_text(TS)
    with pytest.raises(InputError, match=r"data\.group: found 'g', allowed: none"):
        splits_of(path, group="g")
    monkeypatch.setattr(series_files, "MAX_BYTES", 20)
    with pytest.raises(InputError, match="takes more than 20 bytes"):
        read_ts(path)
