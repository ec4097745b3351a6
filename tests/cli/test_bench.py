"""`nervecode bench`, end to end on a small config."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open

from .conftest import TINY

SETS = {
    "digits_8_9": "near",
    "uniform_noise": "far",
    "gaussian_noise": "far",
    "rotate_45": "shift",
}
SPLITS = ["id_calibration", "id_test", *[f"ood_{name}" for name in SETS]]
COMBINATIONS = [f"combo_id_zscore_equal{tail}" for tail in ("", "_E+M", "_E+N", "_M+N")]
METHODS = {"nervecode", "nervecode_v0_1_1", *TINY["bench"]["detectors"], *COMBINATIONS}
METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95", "id_tpr95_ood_accepted")


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def meta(run: Path) -> dict[str, Any]:
    return json.loads((run / "meta.json").read_text())  # type: ignore[no-any-return]


def events(run: Path) -> list[tuple[str, str]]:
    lines = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    return [(line["event"], line.get("stage", "")) for line in lines]


# The document on standard output


def test_the_json_document_is_all_there_is_on_standard_output(benched: Any) -> None:
    document = json.loads(benched.out)
    assert len(benched.out.splitlines()) == 1
    assert list(document) == ["schema_version", "run_dir", "status", "gate", "rows", "summary"]
    assert document["schema_version"] == 1
    assert document["status"] == "complete"
    assert Path(document["run_dir"]).is_dir()
    gate = document["gate"]
    assert set(gate) == {"required", "passed", "accuracy"}
    assert gate["required"] == 0.1
    assert gate["passed"] is True
    assert set(gate["accuracy"]) == {"0", "1"}
    assert all(0.5 < value <= 1 for value in gate["accuracy"].values())


def test_the_rows_are_every_seed_set_and_method(benched: Any) -> None:
    rows = json.loads(benched.out)["rows"]
    required = {"seed", "ood", "group", "method", "auroc", "aupr_in", "aupr_out", "fpr95",
                "n_id", "n_ood"}  # fmt: skip
    assert all(required <= set(row) for row in rows)
    found = [(row["seed"], row["ood"], row["method"]) for row in rows]
    assert len(set(found)) == len(found) == 2 * len(SETS) * len(METHODS)
    assert {ood: group for row in rows for ood, group in [(row["ood"], row["group"])]} == SETS
    assert {row["method"] for row in rows} == METHODS
    for row in rows:
        assert row["status"] == "ok"
        assert all(0 <= row[metric] <= 1 for metric in METRICS)
        assert (row["n_id"], row["n_ood"]) == (50, 50)


def test_the_summary_is_that_of_the_rows(benched: Any) -> None:
    document = json.loads(benched.out)
    assert {(s["method"], s["group"]) for s in document["summary"]} == {
        (method, group) for method in METHODS for group in ("near", "far", "shift")
    }
    for one in document["summary"]:
        chosen = [row for row in document["rows"]
                  if (row["method"], row["group"]) == (one["method"], one["group"])]  # fmt: skip
        seeds = [np.mean([row["auroc"] for row in chosen if row["seed"] == s]) for s in (0, 1)]
        assert one["auroc_mean"] == pytest.approx(np.mean(seeds))
        assert one["auroc_std"] == pytest.approx(np.std(seeds, ddof=1))


def test_far_outliers_are_told_from_digits(benched: Any) -> None:
    rows = json.loads(benched.out)["rows"]
    far = [r["auroc"] for r in rows if r["method"] == "nervecode" and r["group"] == "far"]
    assert min(far) > 0.8


def test_everything_else_is_on_standard_error(benched: Any, finished: Path) -> None:
    assert f"Run: {finished}" in benched.err
    assert f"Next: nervecode plot {finished} --kind layerwise" in benched.err.splitlines()[-1]
    assert "Traceback" not in benched.err


# The run directory


def test_the_run_directory_is_complete(finished: Path) -> None:
    expected = {
        "config.yaml", "meta.json", "log.jsonl", "run.log", "results.csv", "results.json",
        "tables.md", "checkpoints/checkpoint_manifest.json",
    }  # fmt: skip
    for seed in (0, 1):
        expected |= {
            f"metrics/seed_{seed}.csv", f"diagnostics/seed_{seed}.csv",
            f"checkpoints/seed_{seed}.safetensors", f"calibration/seed_{seed}.safetensors",
            f"scores/seed_{seed}/failures.json",
        }  # fmt: skip
        expected |= {f"{kind}/seed_{seed}/{split}.npz" for kind in ("layerwise", "scores")
                     for split in SPLITS}  # fmt: skip
    found = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    plots = {name for name in found if name.startswith("plots/")}
    assert found - plots - {"report.html"} == expected
    assert len(plots) >= 4
    assert not (finished / "features").exists()


def test_the_manifest_hashes_every_checkpoint(finished: Path) -> None:
    manifest = json.loads((finished / "checkpoints/checkpoint_manifest.json").read_text())
    assert set(manifest) == {"seed_0.safetensors", "seed_1.safetensors"}
    for name, entry in manifest.items():
        path = finished / "checkpoints" / name
        assert entry["sha256"] == sha(path) == meta(finished)["files"][f"checkpoints/{name}"]
        assert entry["bytes"] == path.stat().st_size
        assert entry["epochs"] == 2
        with safe_open(path, framework="np") as file:
            assert json.loads(file.metadata()["nervecode"])["format"].startswith("nervecode-")


def test_the_metadata_hash_every_file_but_themselves_and_the_log(finished: Path) -> None:
    derived = meta(finished)["derived"].values()
    files = meta(finished)["files"] | {n: h for part in derived for n, h in part["outputs"].items()}
    found = {p.relative_to(finished).as_posix() for p in finished.rglob("*") if p.is_file()}
    assert set(files) == found - {"meta.json", "log.jsonl", "run.log"}
    assert all(sha(finished / name) == digest for name, digest in files.items())


def test_the_metadata_tell_what_a_reader_needs(finished: Path) -> None:
    found = meta(finished)
    assert found["status"] == "complete"
    assert found["higher_is_ood"] is True
    assert found["split_sizes"] == {"id_train": 865, "id_calibration": 289} | {
        split: 50 for split in SPLITS[1:]
    }
    assert set(found["datasets"]) == {"id_train", *SPLITS}
    assert all(len(digest) == 64 for digest in found["datasets"].values())
    assert found["ood_groups"] == SETS
    assert found["num_classes"] == 8
    assert found["gate"]["passed"] is True


def test_arrays_load_without_pickle_and_agree_in_length(finished: Path) -> None:
    for split in SPLITS:
        with np.load(finished / f"layerwise/seed_0/{split}.npz", allow_pickle=False) as file:
            layers = dict(file)
        with np.load(finished / f"scores/seed_0/{split}.npz", allow_pickle=False) as file:
            scores = dict(file)
        n = 289 if split == "id_calibration" else 50
        assert layers["surprise"].shape == (n, len(layers["layer_names"]))
        assert layers["surprise"].dtype == np.float32
        assert set(scores) == METHODS
        assert all(array.shape == (n,) and np.isfinite(array).all() for array in scores.values())


def test_csv_json_and_standard_output_say_the_same(benched: Any, finished: Path) -> None:
    rows = json.loads(benched.out)["rows"]
    with (finished / "results.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [{k: "" if v is None else str(v) for k, v in row.items()} for row in rows]
    saved = json.loads((finished / "results.json").read_text())
    assert [{k: None if v == "" else v for k, v in row.items()} for row in saved["rows"]] == rows


def test_the_tables_name_every_method_and_no_demo(finished: Path) -> None:
    text = (finished / "tables.md").read_text()
    assert text.startswith("## tiny: AUROC ↑ by group")
    assert all(f"| {method} |" in text for method in METHODS)
    assert "DEMO" not in text


# Again


@pytest.mark.slow
def test_a_run_repeated_from_its_own_config_gives_identical_results(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    again = cli("bench", "--config", finished / "config.yaml", "--outdir", tmp_path)
    assert again.status == 0, again.err
    (other,) = tmp_path.iterdir()
    assert other.name != finished.name
    assert (other / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()
    one, two = meta(finished), meta(other)
    assert one["datasets"] == two["datasets"]
    for name, digest in one["files"].items():
        # Others name their run or the speed of the machine, or order their header by chance.
        if name.partition("/")[0] in ("scores", "layerwise", "diagnostics"):
            assert two["files"][name] == digest, name
    assert "tiny: AUROC ↑ by group" in again.out
    assert "tiny: AUROC ↑ by OOD set" in again.out
    assert all(method in again.out for method in METHODS)


def test_a_finished_run_is_skipped_stage_by_stage(cli: Any, run_copy: Path) -> None:
    results = (run_copy / "results.csv").read_bytes()
    before = events(run_copy)
    again = cli("bench", run_copy, "--json")
    assert again.status == 0, again.err
    stages = [f"{stage}/seed_{s}" for s in (0, 1) for stage in ("train", "calibrate", "score")]
    stages += ["tables", "plots", "report"]
    assert events(run_copy)[len(before) :] == [("skip", stage) for stage in stages]
    assert (run_copy / "results.csv").read_bytes() == results
    assert json.loads(again.out)["run_dir"] == str(run_copy)


@pytest.mark.slow
def test_features_are_kept_where_asked_for(cli: Any, run_copy: Path) -> None:
    fewer = ("-o", "train.epochs=1", "-o", "bench.detectors=[]", "-o", "data.far=[]")
    found = cli("bench", run_copy, "-o", "bench.keep_features=true", *fewer)
    assert found.status == 0, found.err
    again = "trained again in the place of the former training, as it differs in train.epochs\n"
    assert [f"seed {s}: {again}" in found.err for s in (0, 1)] == [True, True]
    kept = {p.relative_to(run_copy).as_posix() for p in (run_copy / "features").rglob("*.*")}
    assert kept == {f"features/seed_{s}/{split}.safetensors" for s in (0, 1)
                    for split in ("id_train", "id_calibration")}  # fmt: skip


def test_damage_is_found_and_repaired(cli: Any, run_copy: Path) -> None:
    results = (run_copy / "results.csv").read_bytes()
    (run_copy / "checkpoints/seed_1.safetensors").write_bytes(b"junk")
    (run_copy / "scores/seed_0/id_test.npz").unlink()
    found = cli("bench", run_copy)
    assert found.status == 4
    assert "is missing; `nervecode bench" in found.err or "is damaged" in found.err
    assert (run_copy / "results.csv").read_bytes() == results
    repaired = cli("bench", run_copy, "--repair")
    assert repaired.status == 0, repaired.err
    assert "again: train/seed_1" in repaired.err
    assert "again: score/seed_0" in repaired.err
    assert (run_copy / "results.csv").read_bytes() == results
    assert meta(run_copy)["status"] == "complete"


@pytest.mark.slow
def test_a_demo_says_so_everywhere(cli: Any, run_copy: Path) -> None:
    found = cli("bench", run_copy, "-o", "demo=true")
    assert found.status == 0, found.err
    assert "DEMO: tiny: AUROC ↑ by group" in found.out
    assert "DEMO: tiny: AUROC ↑ by OOD set" in found.out
    assert (run_copy / "tables.md").read_text().startswith("## DEMO: tiny")
    assert sha(run_copy / "DEMO_MODE.txt") == meta(run_copy)["files"]["DEMO_MODE.txt"]


# The gate


@pytest.fixture
def failed(cli: Any, run_copy: Path) -> Any:
    return cli("bench", run_copy, "--accuracy-gate", "1", "--json")


def test_a_failed_gate_withholds_every_figure(failed: Any, run_copy: Path) -> None:
    assert failed.status == 3
    document = json.loads(failed.out)
    assert document["status"] == "gate_failed"
    assert document["gate"]["required"] == 1.0
    assert document["gate"]["passed"] is False
    assert document["summary"] == []
    for row in document["rows"]:
        assert row["status"] == "not_reported"
        assert all(row[metric] is None for metric in METRICS)
        accuracy = document["gate"]["accuracy"][str(row["seed"])]
        sign = f"not reported: accuracy {accuracy:.4g} {'<' if accuracy < 1 else '>='} 1"
        assert row["reason"].startswith(sign)
    text = (run_copy / "tables.md").read_text()
    assert text.startswith("## FAILED GATE: tiny: tables withheld")
    assert "not reported: accuracy" in text
    assert (run_copy / "GATE_FAILED.txt").read_text()
    with (run_copy / "results.csv").open(newline="") as file:
        assert {row["auroc"] for row in csv.DictReader(file)} == {""}


@pytest.mark.slow
def test_a_failed_gate_names_the_way_on(failed: Any, run_copy: Path) -> None:
    assert "Error: accuracy gate 1 not passed (seed 0: " in failed.err
    assert f"`nervecode bench {run_copy} --allow-low-accuracy`" in failed.err
    assert "Traceback" not in failed.err


@pytest.mark.slow
def test_a_failed_gate_can_be_shown_all_the_same(cli: Any, failed: Any, run_copy: Path) -> None:
    shown = cli("bench", run_copy, "--allow-low-accuracy")
    assert shown.status == 0, shown.err
    assert "FAILED GATE: tiny: AUROC ↑ by group" in shown.out
    text = (run_copy / "tables.md").read_text()
    assert text.startswith("## FAILED GATE: tiny: AUROC ↑ by group")
    assert (run_copy / "GATE_FAILED.txt").exists()
    assert meta(run_copy)["status"] == "gate_failed"


@pytest.mark.slow
def test_a_gate_that_is_passed_again_leaves_no_mark(
    cli: Any, failed: Any, run_copy: Path, finished: Path
) -> None:
    back = cli("bench", run_copy, "--accuracy-gate", "0.1")
    assert back.status == 0, back.err
    assert not (run_copy / "GATE_FAILED.txt").exists()
    assert "GATE_FAILED.txt" not in meta(run_copy)["files"]
    assert (run_copy / "results.csv").read_bytes() == (finished / "results.csv").read_bytes()


@pytest.mark.slow
def test_a_gate_counts_though_there_is_no_outlier(
    cli: Any, tiny_file: Path, tmp_path: Path
) -> None:
    nothing = [f"data.{group}=[]" for group in ("near", "far", "shift")]
    overrides = [part for one in [*nothing, "train.epochs=1"] for part in ("-o", one)]
    found = cli("bench", "--config", tiny_file, "--outdir", tmp_path, "--accuracy-gate", "1",
                "--seeds", "0", "--json", *overrides)  # fmt: skip
    assert found.status == 3
    assert json.loads(found.out)["rows"] == []
    passed = cli("bench", *tmp_path.iterdir(), "--accuracy-gate", "0")
    assert passed.status == 0, passed.err
    assert "Plots:" not in passed.err and "Report:" in passed.err


# Settings on the command line


@pytest.mark.slow
def test_options_come_before_the_file(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    found = cli("bench", "--config", tiny_file, "--outdir", tmp_path, "--seeds", "3",
                "--limit-eval", "20", "-o", "bench.detectors=[msp]", "-o", "train.epochs=1",
                "-o", "data.far=[]", "--json")  # fmt: skip
    assert found.status == 0, found.err
    rows = json.loads(found.out)["rows"]
    assert {row["seed"] for row in rows} == {3}
    assert {row["n_id"] for row in rows} == {20}
    assert {row["method"] for row in rows} >= {"msp", "nervecode"}
    (run,) = tmp_path.iterdir()
    assert "epochs: 1" in (run / "config.yaml").read_text()


def test_a_run_that_another_process_writes_is_refused(
    cli: Any, run_copy: Path, tree: Callable[[Path], dict[str, str]]
) -> None:
    (run_copy / ".lock").write_text(json.dumps({"host": "elsewhere", "process": 1}))
    before = tree(run_copy)
    found = cli("bench", run_copy, "--limit-eval", "9")
    assert found.status == 1
    assert "process 1 on elsewhere is writing to it" in found.err
    assert tree(run_copy) == before
