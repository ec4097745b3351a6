"""Collect: the record that counts is that of the very cell, of a run here or of the file."""

from __future__ import annotations

import csv
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from nervecode.errors import ArtifactError, GateError
from nervecode.files import csv_text
from nervecode.lab.results.statistics import paired_error, placements
from nervecode.lab.run.directory import RunDir
from nervecode.lab.study.checks import check_record
from nervecode.lab.study.collect import collect, told
from nervecode.lab.study.plan import Plan, cells_of
from nervecode.lab.study.records import read_records, write_records
from nervecode.lab.study.study import Study

NOWHERE = Path("no/such/folder")


@pytest.fixture
def folder(study: Study, rows: Path, tmp_path: Path) -> Path:
    """A copy of the rows of the small plan."""
    return Path(shutil.copytree(rows, tmp_path / "rows"))


@pytest.mark.slow
def test_figures_are_those_of_the_run(plan: Plan, study: Study, runs: Path) -> None:
    (one, *_) = study.settings
    for cell, record in zip(cells_of(plan, "one"), one.records, strict=True):
        run = RunDir(cell.root(runs))
        assert (record.seed, record.cell) == (cell.seed, cell.id)
        made_with = run.meta["stages"][f"score/seed_{cell.seed}"]["made_with"]
        assert record.commit[:10] == (made_with["git_commit"] or "")[:10]
        assert record.finished == run.meta["stages"][f"score/seed_{cell.seed}"]["finished"]
        inside = run.arrays(run.paths.scores(cell.seed, "id_test"))
        arrays = run.arrays(run.paths.layerwise(cell.seed, "id_test"))
        correct = arrays["labels"] == arrays["predictions"]
        assert record.accuracy == pytest.approx(100 * correct.mean(), rel=1e-4)
        assert 0 < record.ece < 100
        assert record.sizes["id_test"] == len(correct) == 30
        for row in (row for row in record.rows if row["method"] == "knn"):
            outside = run.arrays(run.paths.scores(cell.seed, f"ood_{row['ood']}"))
            truth = np.r_[np.zeros(len(correct)), np.ones(len(outside["knn"]))]
            expected = roc_auc_score(truth, np.r_[inside["knn"], outside["knn"]])
            assert row["auroc"] == pytest.approx(expected, abs=1e-5)
        places = [
            {s: placements(inside[m], run.arrays(run.paths.scores(cell.seed, f"ood_{s}"))[m])
             for s in ("digits_8_9", "uniform_noise")} for m in ("nervecode", "knn")
        ]  # fmt: skip
        errors = record.errors["knn"]
        weights = dict.fromkeys(places[0], 0.5)
        assert errors["score"] == pytest.approx(100 * paired_error(*places, weights), rel=1e-2)
        near = 100 * paired_error(*places, {"digits_8_9": 1.0})
        assert errors["near"] == pytest.approx(near, rel=1e-2)


def test_a_clone_without_runs_has_the_same_setting(plan: Plan, study: Study, folder: Path) -> None:
    for setting in study.settings:
        assert collect(plan, setting.name, NOWHERE, folder, command="x") == setting


def test_a_damaged_run_takes_nothing_away(
    plan: Plan, study: Study, runs: Path, folder: Path, tmp_path: Path
) -> None:
    for cell in cells_of(plan, "one"):
        copy = Path(shutil.copytree(cell.root(runs), cell.root(tmp_path)))
        (copy / "meta.json").write_text("{")
    assert collect(plan, "one", tmp_path, folder, command="x") == study.settings[0]


def test_a_newer_run_of_the_same_cell_refreshes_its_rows(
    plan: Plan, runs: Path, folder: Path
) -> None:
    path = folder / "one.csv"
    first, second = read_records(path)
    old = [replace(first, finished="2020-01-01T00:00:00+00:00", accuracy=1.0), second]
    write_records(path, old)
    assert collect(plan, "one", NOWHERE, folder, command="x").accuracies[0] == 1
    assert collect(plan, "one", runs, folder, command="x").records == [first, second]
    assert read_records(path) == [first, second]


def test_rows_of_another_config_are_named_and_not_used(
    plan: Plan, study: Study, folder: Path
) -> None:
    path = folder / "one.csv"
    first, second = read_records(path)
    write_records(path, [replace(first, cell="0" * 12), second])
    found = collect(plan, "one", NOWHERE, folder, command="x")
    assert found.records == [second]
    (why,) = found.absent.values()
    assert why == f"stale (recorded for the config of cell {'0' * 12}, planned is {first.cell})"
    assert found.label == "one (1 of 2 seeds)"
    changed = plan.model_copy(update={"overrides": (*plan.overrides, "bench.limit_eval=31")})
    with pytest.raises(ArtifactError, match=r"seed 0: stale .*; seed 1: stale .*; `x --only one`"):
        collect(changed, "one", NOWHERE, folder, command="x")
    assert len(read_records(path)) == 2  # nothing is thrown away before it is replaced


def test_a_merge_with_two_cells_of_one_seed_takes_that_of_the_plan(
    plan: Plan, study: Study, folder: Path
) -> None:
    path = folder / "one.csv"
    first, second = read_records(path)
    write_records(path, [replace(first, cell="0" * 12, accuracy=1.0), second, first])
    found = collect(plan, "one", NOWHERE, folder, command="x")
    assert found.records == [first, second]
    assert not found.absent


def test_a_cell_that_missed_its_gate_leaves_no_figure(
    plan: Plan, study: Study, folder: Path
) -> None:
    path = folder / "one.csv"
    first, second = read_records(path)
    missed = replace(second, accuracy=0.0, rows=[], errors={}, gate="accuracy 0.1 < 0.97")
    write_records(path, [first, missed])
    with pytest.raises(GateError, match=r"gate not passed: seed 1: accuracy 0\.1 < 0\.97"):
        collect(plan, "one", NOWHERE, folder, command="x")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("mahalanobis", "mahalanobiss", "unknown method 'mahalanobiss' of cell .*; did you mean"),
        ("knn", "", "unknown method ''"),
        ("knn", "vim", "unknown method 'vim'"),
    ],
)
def test_a_method_that_the_config_has_not_is_refused(
    old: str, new: str, words: str, plan: Plan, study: Study, folder: Path
) -> None:
    path = folder / "one.csv"
    path.write_text(path.read_text().replace(f",{old},", f",{new},"))
    with pytest.raises(ArtifactError, match=words) as caught:
        collect(plan, "one", NOWHERE, folder, command="x")
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize(
    "method",
    ["nervecode", "nervecode_v0_1_1", "msp", "combo_id_zscore_equal", "combo_id_zscore_equal_E+M",
     "oracle_ood_calibrated_combo_E+N"],
)  # fmt: skip
def test_a_cell_without_a_method_of_its_config_is_refused(
    method: str, plan: Plan, study: Study, folder: Path
) -> None:
    path = folder / "one.csv"
    first, second = read_records(path)
    kept = [row for row in second.rows if row["method"] != method]
    assert len(kept) < len(second.rows)
    write_records(path, [first, replace(second, rows=kept)])
    line = 2 + len({row["method"] for row in first.rows})
    told = f"{path}: line {line}: found no row of {method} for cell {second.cell}, allowed: one"
    with pytest.raises(ArtifactError, match=f"^{re.escape(told)}; put the committed file back"):
        collect(plan, "one", NOWHERE, folder, command="x")


def edited(path: Path, change: Callable[[dict[str, str]], None], method: str) -> None:
    """Change the lines of a method in a file."""
    header, *lines = csv.reader(path.read_text().splitlines())
    rows = [dict(zip(header, line, strict=True)) for line in lines]
    for row in rows:
        if row["method"] == method:
            change(row)
    path.write_text(csv_text(rows, header))


def test_a_detector_may_have_failed_and_the_signal_may_not(
    plan: Plan, study: Study, folder: Path
) -> None:
    def fail(row: dict[str, str]) -> None:
        row |= {c: "" for c in row if " " in c or c.startswith("error_")}
        row |= {"status": "failed", "reason": "no room"}

    edited(folder / "one.csv", fail, "knn")
    one = collect(plan, "one", NOWHERE, folder, command="x")
    assert one.failures == {"knn": "no room"}
    edited(folder / "two.csv", fail, "energy")  # and its combinations stand
    words = r"two\.csv: line \d+: unknown method 'combo_id_zscore_equal"
    with pytest.raises(ArtifactError, match=words):
        collect(plan, "two", NOWHERE, folder, command="x")
    edited(folder / "far.csv", fail, "nervecode_v0_1_1")
    words = r"line 3: status: found 'failed', allowed for nervecode_v0_1_1: ok"
    with pytest.raises(ArtifactError, match=words):
        collect(plan, "far", NOWHERE, folder, command="x")


def test_an_oracle_is_no_method_and_no_method_is_an_oracle(
    plan: Plan, study: Study, folder: Path
) -> None:
    edited(folder / "one.csv", lambda row: row.update(status="oracle"), "knn")
    words = r"status: found 'oracle', allowed for knn: ok, failed"
    with pytest.raises(ArtifactError, match=words):
        collect(plan, "one", NOWHERE, folder, command="x")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("far uniform_noise", "near uniform_noise",
         "found a column 'auroc near uniform_noise' with nervecode; did you mean 'far uniform_no"),
        ("far uniform_noise", "far uniform_noises",
         "found a column 'auroc far uniform_noises' with nervecode; did you mean 'far uniform_no"),
        ("far uniform_noise", "", "found no 'auroc far uniform_noise' of nervecode, allowed: one"),
        ("shift hflip", "", "found no 'auroc shift hflip' of nervecode, allowed: one"),
    ],
)  # fmt: skip
def test_sets_and_groups_are_those_of_the_config(
    old: str, new: str, words: str, plan: Plan, study: Study, folder: Path
) -> None:
    path = folder / "one.csv"
    header, *lines = csv.reader(path.read_text().splitlines())
    kept = [i for i, column in enumerate(header) if new or not column.endswith(old)]
    rows = [[row[i].replace(old, new) for i in kept] for row in (header, *lines)]
    path.write_text("".join(",".join(row) + "\n" for row in rows))
    with pytest.raises(ArtifactError) as caught:
        collect(plan, "one", NOWHERE, folder, command="x")
    assert words in str(caught.value)


def test_figures_below_the_gate_are_refused(plan: Plan, runs: Path, folder: Path) -> None:
    (cell, _), (record, _) = cells_of(plan, "one"), read_records(folder / "one.csv")
    bench = cell.config.bench.model_copy(update={"accuracy_gate": 0.9})
    gated = cell.model_copy(update={"config": cell.config.model_copy(update={"bench": bench})})
    check_record(replace(record, accuracy=90.0), gated, Path("a.csv"))
    with pytest.raises(ArtifactError) as caught:
        check_record(replace(record, accuracy=89.999), gated, Path("a.csv"))
    told = "a.csv: line 2: accuracy: found 89.999, allowed here: at least 90, the gate; "
    assert str(caught.value).startswith(told)
    missed = replace(record, rows=[], gate="accuracy 0.899 < 0.9", accuracy=89.9)
    check_record(missed, gated, Path("a.csv"))
    with pytest.raises(ArtifactError, match="accuracy: found 95, allowed here: at most 90"):
        check_record(replace(missed, accuracy=95.0), gated, Path("a.csv"))


def test_a_cell_has_the_seed_of_the_plan(plan: Plan, study: Study, folder: Path) -> None:
    path = folder / "one.csv"
    first, second = read_records(path)
    write_records(path, [first, replace(second, seed=0)])
    told = rf"one\.csv: line \d+: seed: found 0, allowed for cell {second.cell}: 1; put the"
    with pytest.raises(ArtifactError, match=told):
        collect(plan, "one", NOWHERE, folder, command="x")


@pytest.mark.parametrize("finished", ["2999-01-01T00:00:00+00:00", None])
def test_a_run_that_is_no_newer_than_its_rows_takes_nothing(
    finished: str | None, plan: Plan, runs: Path, folder: Path
) -> None:
    path = folder / "one.csv"
    first, second = read_records(path)
    committed = [replace(first, finished=finished or first.finished, accuracy=1.0), second]
    write_records(path, committed)
    before = path.read_bytes()
    assert collect(plan, "one", runs, folder, command="x").accuracies[0] == 1
    assert path.read_bytes() == before


def test_cells_that_are_not_done_are_told(plan: Plan, runs: Path, tmp_path: Path) -> None:
    longer = plan.model_copy(update={"seeds": (0, 1, 2, 3)})
    found = collect(longer, "one", runs, tmp_path, command="x")
    assert found.absent == {2: "waiting", 3: "waiting"}
    assert told(found.absent) == "seed 2, 3: waiting"
    cell = cells_of(plan, "two")[0]
    copy = Path(shutil.copytree(cell.root(runs), cell.root(tmp_path)))
    (copy / "tables.md").write_text("changed")
    with pytest.raises(ArtifactError) as caught:
        collect(plan, "two", tmp_path, tmp_path / "rows", command="x")
    assert str(caught.value) == (
        "seed 0: damaged (tables.md is changed); seed 1: waiting; `x --only two` runs it"
    )
    assert not (tmp_path / "rows").exists()
