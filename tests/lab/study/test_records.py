"""Records: what is written is read back; what is damaged is named, never half-read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from nervecode.errors import ArtifactError
from nervecode.lab.study.records import read_records, write_records
from tests.lab.study.made import made

SETTING = made(
    "digits", "digits", ece=(1.23456, None),
    scores={"nervecode": (0.987654321, 0.8), "energy": (0.91, 0.81), "knn": (1.0, 0.0)},
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "digits.csv"
    write_records(file, SETTING.records)
    return file


def test_what_is_written_is_read_back_to_five_digits(path: Path) -> None:
    records = read_records(path)
    for record, given in zip(records, SETTING.records, strict=True):
        assert replace(record, rows=(), ece=None) == replace(given, rows=(), ece=None)
        for row, other in zip(record.rows, given.rows, strict=True):
            assert row.keys() == other.keys()
            assert row == {**other, "auroc": pytest.approx(other["auroc"], abs=5e-6)}
    assert (records[0].ece, records[1].ece) == (1.235, None)
    write_records(path.with_name("again.csv"), records)
    assert path.with_name("again.csv").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("end", ["", "\n\n", "\r\n\r\n\n"])
def test_what_editors_add_changes_nothing(end: str, path: Path) -> None:
    known = read_records(path)
    path.write_text("\ufeff" + path.read_text().rstrip("\n") + end, encoding="utf-8")
    assert read_records(path) == known


def test_a_file_that_is_not_there_has_no_records(tmp_path: Path) -> None:
    assert read_records(tmp_path / "no.csv") == []


def test_what_failed_keeps_its_reason_and_has_no_figures(path: Path) -> None:
    (first, _) = SETTING.records
    failed = [
        {**row, "status": "failed", "reason": 'not\n "positive", definite', "auroc": "",
         "aupr_out": "", "fpr95": ""} if row["method"] == "knn" else row for row in first.rows
    ]  # fmt: skip
    gate = replace(first, seed=1, cell="b" * 12, rows=[], errors={}, gate="accuracy 0.9 < 0.97")
    write_records(
        path, [replace(first, rows=failed, errors={"energy": first.errors["energy"]}), gate]
    )
    read, low = read_records(path)
    rows = [row for row in read.rows if row["method"] == "knn"]
    assert [row["reason"] for row in rows] == ['not "positive", definite'] * 2
    assert not any("auroc" in row for row in rows)
    assert (low.gate, low.rows, low.seed) == ("accuracy 0.9 < 0.97", [], 1)


def test_rows_of_an_oracle_have_an_auroc_alone(path: Path) -> None:
    (first, _) = SETTING.records
    oracle = {"seed": 0, "ood": "far_set", "group": "far", "method": "oracle_x", "reason": "",
              "status": "oracle", "auroc": 0.75}  # fmt: skip
    write_records(path, [replace(first, rows=[*first.rows, oracle])])
    (read,) = read_records(path)
    assert [row for row in read.rows if row["method"] == "oracle_x"] == [oracle]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed,cell", "seed,kell", "found 0 columns 'cell', allowed: 1"),
        ("version,commit", "version,version", "found 2 columns 'version', allowed: 1"),
        ("\n1,", "\n<<<<<<< HEAD\n1,", "line 5: found 1 values, allowed: 21"),
        ("98.765", "nan", "line 2: auroc near near_set: found 'nan', allowed: a number from 0"),
        ("98.765", "", "line 2: auroc near near_set: found '', allowed: a number from 0 to 100"),
        ("98.765", "198", "line 2: auroc near near_set: found '198', allowed: a number"),
        (",energy,ok,,0.5,", ",energy,ok,,,", "line 3: error_score: found '', allowed: a number"),
        (",energy,ok,", ",energy,okay,", "line 3: status: found 'okay', allowed: ok, failed"),
        (",energy,ok,", ",knn,ok,", "line 4: 'knn' is there twice for cell"),
        ("\n1,", "\n2,", "line 6: seed: found '1', allowed: '2', as on"),
        ("\n0,", "\n-1,", "line 3: seed: found '0', allowed: '-1', as on"),
        (",200,nervecode", ",2e2,nervecode", "id_test: found '2e2', allowed: a whole number"),
        (",,,,,,,,energy", ",,,9,,,,,energy", "accuracy: found '9', allowed: '99', as on"),
        ("aupr_out near near_set", "auroc near near_set",
         "found 2 columns 'auroc near near_set', allowed: 1"),
        ("aupr_out near near_set", "aupr_in near near_set",
         "found 0 columns 'aupr_out near near_set', allowed: 1"),
        ("near near_set", "nearby near_set", "found a column 'auroc nearby near_set', allowed: "),
        (",energy,ok,,", ",energy,ok,why,",
         "line 3: reason: found 'why', allowed with status ok: nothing"),
        (",energy,ok,,", ",energy,failed,,",
         "line 3: reason: found '', allowed with status failed: a reason"),
        (",energy,ok,,", ",energy,failed,no room,",
         "line 3: error_score: found '0.5', allowed with status failed: nothing"),
        (",energy,ok,,0.5,1,", ",energy,failed,no room,,,",
         "line 3: auroc near near_set: found '91', allowed with status failed: nothing"),
        ("2026-01-01T", "2026-01-71T", "line 2: finished: found '2026-01-71T00:00:00+00:00', all"),
        (",98.765,50,100,98.765,", ",0.98765,50,0.2,98.765,",
         "line 2: auroc near near_set: found 0.98765, allowed with its fpr95: from 94.80"),
        ("\n0,", "\n\n0,", "line 2: found 0 values, allowed: 21"),
        ("+00:00,99", ",99", "line 2: finished: found '2026-01-01T00:00:00', allowed: a time"),
        ('"', '"', None),
    ],
)  # fmt: skip
def test_a_damaged_file_is_refused_with_its_line(
    old: str, new: str, words: str | None, path: Path
) -> None:
    if words is None:
        path.write_text(path.read_text() + '"')
        words = "is damaged"
    else:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
    with pytest.raises(ArtifactError) as caught:
        read_records(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)
    assert "put the committed file back, or remove it" in str(caught.value)


def test_a_cell_that_missed_its_gate_has_one_line(path: Path) -> None:
    (first, second) = SETTING.records
    write_records(path, [replace(first, rows=[], errors={}, gate="too low"), second])
    lines = path.read_text().splitlines()
    lines.insert(2, lines[2].replace(second.cell, first.cell).replace("1,", "0,", 1))
    lines[2] = lines[2].replace(",98,", ",99,")
    path.write_text("\n".join(lines) + "\n")
    words = "line 3: status: found 'ok', allowed: one line for a cell with gate_failed"
    with pytest.raises(ArtifactError, match=words):
        read_records(path)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"\x00\n"])
def test_what_is_no_text_is_refused(data: bytes, path: Path) -> None:
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"digits\.csv: "):
        read_records(path)


@pytest.mark.parametrize(
    ("field", "value"), [("seed", "1.5"), ("seed", ""), ("accuracy", "high"), ("id_train", "-3")]
)
def test_a_cell_with_a_bad_field_is_refused(field: str, value: str, path: Path) -> None:
    header, *lines = (line.split(",") for line in path.read_text().splitlines())
    for line in lines:
        line[header.index(field)] = value
    path.write_text("\n".join(",".join(line) for line in [header, *lines]) + "\n")
    with pytest.raises(ArtifactError, match=f"line 2: {field}: found '{value}', allowed: a"):
        read_records(path)
