"""Rows and tables: summaries by hand, withheld cells, marks, Markdown."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nervecode.errors import ArtifactError
from nervecode.files import write_json, write_npz
from nervecode.lab.config.resolve import resolve
from nervecode.lab.results.metrics import separation
from nervecode.lab.results.rows import (
    COLUMNS,
    METRICS,
    document,
    gate_reason,
    gate_verdict,
    ranking,
    read_rows,
    seed_rows,
    summarise,
    withhold,
    write_rows,
)
from nervecode.lab.results.tables import all_tables, group_table, markdown, set_table
from nervecode.lab.run.directory import RunDir

PASSED = {"required": 0.9, "passed": True, "accuracy": {"0": 0.95, "1": 0.97}}
FAILED = {"required": 0.9, "passed": False, "accuracy": {"0": 0.61, "1": 0.95}}
META: dict[str, Any] = {
    "name": "try", "demo": False, "gate": PASSED, "seeds": [0, 1], "split_sizes": {"id_test": 50},
}  # fmt: skip


def row(seed: int, ood: str, group: str, method: str, auroc: float) -> dict[str, Any]:
    found: dict[str, Any] = dict.fromkeys(COLUMNS, "")
    figures = dict.fromkeys(METRICS, 0.5) | {"auroc": auroc}
    found |= {"seed": seed, "ood": ood, "group": group, "method": method, "status": "ok"}
    return found | figures | {"n_id": 50, "n_ood": 40, "accuracy": PASSED["accuracy"][str(seed)]}


def failed(seed: int, ood: str, group: str, method: str, reason: str) -> dict[str, Any]:
    empty = {**dict.fromkeys(METRICS, ""), "n_id": "", "n_ood": ""}
    return {**row(seed, ood, group, method, 0), **empty, "status": "failed", "reason": reason}


ROWS = [
    row(0, "n1", "near", "a", 0.80), row(0, "f1", "far", "a", 0.90), row(0, "f2", "far", "a", 1.00),
    row(1, "n1", "near", "a", 0.90), row(1, "f1", "far", "a", 0.90), row(1, "f2", "far", "a", 0.96),
    row(0, "n1", "near", "b", 0.85), row(0, "f1", "far", "b", 0.99), row(0, "f2", "far", "b", 0.99),
    row(1, "n1", "near", "b", 0.85), row(1, "f1", "far", "b", 0.97), row(1, "f2", "far", "b", 0.99),
]  # fmt: skip


# Summaries


def test_a_summary_is_the_mean_over_seeds_of_the_mean_over_sets() -> None:
    found = {(r["method"], r["group"]): r for r in summarise(ROWS)}
    assert set(found) == {("a", "near"), ("a", "far"), ("b", "near"), ("b", "far")}
    assert found["a", "near"]["auroc_mean"] == pytest.approx(0.85)
    assert found["a", "near"]["auroc_std"] == pytest.approx(0.05 * math.sqrt(2))
    assert found["a", "far"]["auroc_mean"] == pytest.approx((0.95 + 0.93) / 2)
    assert found["a", "far"]["auroc_std"] == pytest.approx(0.01 * math.sqrt(2))
    assert found["b", "near"]["auroc_std"] == 0
    assert {r["num_seeds"] for r in found.values()} == {2}


def test_the_ranking_is_by_the_mean_of_near_and_far() -> None:
    ranked = ranking(ROWS)
    assert [r["method"] for r in ranked] == ["b", "a"]
    seeds = [(0.85 + 0.99) / 2, (0.85 + 0.98) / 2]
    assert ranked[0]["auroc_mean"] == pytest.approx(np.mean(seeds))
    assert ranked[0]["auroc_std"] == pytest.approx(np.std(seeds, ddof=1))
    assert ranked[1]["auroc_mean"] == pytest.approx(((0.8 + 0.95) / 2 + (0.9 + 0.93) / 2) / 2)


def test_one_seed_has_no_deviation() -> None:
    one = [r for r in ROWS if r["seed"] == 0]
    assert {r["auroc_std"] for r in [*summarise(one), *ranking(one)]} == {0.0}


def test_failed_rows_are_left_out_of_summaries() -> None:
    rows = [*ROWS, failed(0, "n1", "near", "c", "no"), failed(0, "f1", "far", "c", "no")]
    assert {r["method"] for r in summarise(rows)} == {"a", "b"}
    assert {r["method"] for r in ranking(rows)} == {"a", "b"}


# The gate


def test_withheld_rows_keep_no_figure_and_say_why() -> None:
    found = withhold(ROWS, FAILED)
    assert all(r[metric] == "" for r in found for metric in METRICS)
    assert {r["status"] for r in found} == {"not_reported"}
    reasons = {r["seed"]: r["reason"] for r in found}
    assert reasons == {
        0: "not reported: accuracy 0.61 < 0.9",
        1: "not reported: accuracy 0.95 >= 0.9 (another seed did not pass)",
    }
    assert summarise(found) == []
    assert ROWS[0]["auroc"] == 0.80


def test_a_gates_reason_names_both_figures() -> None:
    gate = {"required": 0.9, "accuracy": {"7": 0.8999}}
    assert gate_reason(gate, 7) == "not reported: accuracy 0.8999 < 0.9"


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    """Two seeds with scores that are known; on seed 1, method `bad` failed."""
    config = resolve(
        preset="digits", overrides=["bench.accuracy_gate=0.75"], settings={"seeds": [0, 1]}
    ).config
    run = RunDir.create(config, tmp_path, command="x")
    rng = np.random.default_rng(0)
    for seed in (0, 1):
        labels = np.array([0, 1, 2, 3])
        right = labels if seed == 0 else np.array([0, 1, 2, 0])
        write_npz(run.paths.layerwise(seed, "id_test"), {"labels": labels, "predictions": right})
        methods = ["nervecode", "bad"] if seed == 0 else ["nervecode"]
        for split, n, shift in (("id_test", 30, 0), ("ood_x", 20, 1)):
            write_npz(run.paths.scores(seed, split), {m: rng.normal(shift, 1, n) for m in methods})
        write_json(run.paths.failures(seed), {} if seed == 0 else {"bad": "ValueError: no"})
        written = [run.paths.layerwise(seed, "id_test"), run.paths.scores(seed, "id_test"),
                   run.paths.scores(seed, "ood_x"), run.paths.failures(seed)]  # fmt: skip
        run.stage("score", seed, {}, lambda paths=written: paths)  # type: ignore[misc]
    return run


def test_the_verdict_is_over_every_seed(run: RunDir) -> None:
    gate = gate_verdict(run, [0, 1])
    assert gate == {"required": 0.75, "passed": True, "accuracy": {"0": 1.0, "1": 0.75}}
    run.__dict__["config"] = resolve(
        preset="digits", overrides=["bench.accuracy_gate=0.76"], settings={"seeds": [0, 1]}
    ).config
    assert gate_verdict(run, [0, 1])["passed"] is False
    assert gate_verdict(run, [0])["passed"] is True


def test_rows_are_of_every_set_and_method(run: RunDir) -> None:
    gate = gate_verdict(run, [0, 1])
    rows = [r for seed in (0, 1) for r in seed_rows(run, seed, {"x": "near"}, gate)]
    assert [(r["seed"], r["method"], r["status"]) for r in rows] == [
        (0, "nervecode", "ok"), (0, "bad", "ok"), (1, "nervecode", "ok"), (1, "bad", "failed"),
    ]  # fmt: skip
    assert all(list(r) == list(COLUMNS) for r in rows)
    inside, outside = (dict(np.load(run.paths.scores(0, s))) for s in ("id_test", "ood_x"))
    expected = separation(inside["bad"], outside["bad"])
    assert {m: rows[1][m] for m in METRICS} == vars(expected)
    assert (rows[1]["n_id"], rows[1]["n_ood"], rows[1]["accuracy"]) == (30, 20, 1.0)
    assert rows[3]["reason"] == "ValueError: no"
    assert rows[3]["auroc"] == ""
    assert rows[3]["accuracy"] == 0.75


def test_rows_need_files_that_are_whole(run: RunDir) -> None:
    gate = gate_verdict(run, [0, 1])
    run.paths.scores(0, "ood_x").write_bytes(b"x")
    with pytest.raises(ArtifactError, match=r"ood_x\.npz: is damaged"):
        seed_rows(run, 0, {"x": "near"}, gate)


def test_rows_written_are_rows_read(run: RunDir) -> None:
    gate = gate_verdict(run, [0, 1])
    rows = [r for seed in (0, 1) for r in seed_rows(run, seed, {"x": "near"}, gate)]
    with pytest.raises(ArtifactError, match=f"`nervecode bench {run.root}` makes it"):
        read_rows(run)
    run.stage("tables", None, {}, lambda: write_rows(run, rows, gate))
    found = read_rows(run)
    assert found == {"gate": gate, "rows": rows, "summary": summarise(rows)}
    with (run.root / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [{k: str(v) for k, v in r.items()} for r in rows] == lines
    run.root.joinpath("results.json").write_text("{}")
    with pytest.raises(ArtifactError, match="is damaged"):
        read_rows(run)


def test_the_document_has_null_for_what_is_not_there(run: RunDir) -> None:
    gate = gate_verdict(run, [0, 1])
    rows = seed_rows(run, 1, {"x": "near"}, gate)
    found = json.loads(json.dumps(document(run, rows, gate)))
    assert found["rows"][0]["reason"] is None
    assert found["rows"][1]["auroc"] is None
    assert found["rows"][0]["auroc"] == rows[0]["auroc"]


# Tables


def test_group_cells_are_auroc_with_deviation_and_marks() -> None:
    rows = [*ROWS, row(0, "n1", "near", "c", 0.85), row(1, "n1", "near", "c", 0.85),
            row(0, "f1", "far", "c", 0.5), row(1, "f1", "far", "c", 0.5)]  # fmt: skip
    table = group_table(META, rows)
    assert table.title == "try: AUROC ↑ by group"
    assert table.header == ["method", "near+far", "near", "far"]
    assert [r[0] for r in table.body] == ["b", "a", "c"]
    assert table.body[1] == ["a", "89.50±2.83", "85.00±7.07", "94.00±1.41"]
    column = table.header.index("near")
    # All three means are 85.00: what is shown equal is marked equal.
    assert {r for r, c in table.best if c == column} == {0, 1, 2}
    assert not {r for r, c in table.second if c == column}
    far = table.header.index("far")
    assert [r for r, c in table.best if c == far] == [0]
    assert [r for r, c in table.second if c == far] == [1]


def test_set_cells_are_means_over_seeds() -> None:
    table = set_table(META, ROWS)
    assert table.header == ["method", "n1", "f1", "f2"]
    assert table.body == [["b", "85.00", "98.00", "99.00"], ["a", "85.00", "90.00", "98.00"]]
    assert table.best == {(0, 1), (1, 1), (0, 2), (0, 3)}
    assert table.second == {(1, 2), (1, 3)}
    assert "mean over 2 seeds" in table.caption and "deviation" not in table.caption
    assert "mean ± standard deviation over 2 seeds" in group_table(META, ROWS).caption


def test_a_method_without_figures_in_a_group_says_failed() -> None:
    rows = [*ROWS, row(0, "n1", "near", "c", 0.9), row(0, "f1", "far", "c", 0.9),
            row(0, "s", "shift", "a", 0.7)]  # fmt: skip
    table = group_table(META, rows)
    cells = {r[0]: dict(zip(table.header, r, strict=True)) for r in table.body}
    assert cells["a"]["shift"] == "70.00"
    assert cells["c"]["shift"] == "failed"


def test_tables_of_one_seed_show_none() -> None:
    table = group_table(META | {"seeds": [0]}, [row for row in ROWS if row["seed"] == 0])
    assert not any("±" in cell for line in table.body for cell in line)
    assert "one seed, which has no deviation" in table.caption


def test_without_near_and_far_methods_are_still_shown() -> None:
    table = group_table(META, [row(0, "s", "shift", "b", 0.7), row(0, "s", "shift", "a", 0.8)])
    assert table.header == ["method", "shift"]
    assert table.body == [["a", "80.00"], ["b", "70.00"]]


def test_the_caption_tells_seeds_size_and_accuracy() -> None:
    caption = group_table(META, ROWS).caption
    assert "over 2 seeds; 50 ID test inputs; ID accuracy 96.00 %." in caption


def test_markdown_has_best_in_bold_and_second_in_italics() -> None:
    lines = markdown(META, ROWS).splitlines()
    assert lines[0] == "## try: AUROC ↑ by group"
    assert lines[2:4] == ["| method | near+far | near | far |", "| --- | --- | --- | --- |"]
    assert lines[4] == "| b | **91.75±0.35** | **85.00±0.00** | **98.50±0.71** |"
    assert lines[5] == "| a | *89.50±2.83* | **85.00±7.07** | *94.00±1.41* |"
    assert "## try: AUROC ↑ by OOD set" in lines
    assert "| a | **85.00** | *90.00* | *98.00* |" in lines


def test_a_failed_gate_has_a_verdict_in_the_place_of_tables() -> None:
    meta = META | {"gate": FAILED}
    (table,) = all_tables(meta, withhold(ROWS, FAILED))
    assert table.title == "FAILED GATE: try: tables withheld"
    assert table.body == [
        ["0", "not reported: accuracy 0.61 < 0.9"],
        ["1", "not reported: accuracy 0.95 >= 0.9 (another seed did not pass)"],
    ]
    text = markdown(meta, withhold(ROWS, FAILED))
    assert "not reported: accuracy 0.61 < 0.9" in text
    assert "85.00" not in text


def test_a_failed_gate_that_is_shown_all_the_same_is_marked() -> None:
    titles = [table.title for table in all_tables(META | {"gate": FAILED}, ROWS)]
    assert titles == ["FAILED GATE: try: AUROC ↑ by group", "FAILED GATE: try: AUROC ↑ by OOD set"]


def test_a_transfer_is_marked_beside_all_else() -> None:
    meta = META | {"demo": True, "transfer": True, "gate": FAILED}
    titles = [table.title for table in all_tables(meta, ROWS)]
    assert all(title.startswith("DEMO: TRANSFER: FAILED GATE: try") for title in titles)


def test_a_demo_is_marked() -> None:
    titles = [table.title for table in all_tables(META | {"demo": True}, ROWS)]
    assert all(title.startswith("DEMO: try") for title in titles)


def test_failures_have_a_table_with_their_reasons_once_each() -> None:
    rows = [*ROWS, failed(0, "n1", "near", "c", "ValueError: no"),
            failed(0, "f1", "far", "c", "ValueError: no")]  # fmt: skip
    table = all_tables(META, rows)[-1]
    assert table.title == "Methods that failed"
    assert table.body == [["c", "0", "ValueError: no"]]
