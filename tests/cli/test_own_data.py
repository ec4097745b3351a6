"""One's own table and series from a file to scores, by the command line alone."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from nervecode.lab.data.splits import build_splits
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.records import forget
from tests.command_line import dotted

QUICK = ["-o", "train.epochs=3", "-o", "train.batch_size=32", "-o", "bench.detectors=[msp]",
         "-o", "seeds=[0]"]  # fmt: skip


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    random = np.random.default_rng(0)
    kind = np.array(["ant", "bee", "cat"])[np.arange(240) % 3]
    frame = pd.DataFrame(
        {
            "size": random.normal(0, 1, 240) + 5 * (kind == "bee") + 10 * (kind == "cat"),
            "colour": np.where(
                random.random(240) < 0.9, np.where(kind == "ant", "red", "blue"), ""
            ),
            "kind": kind,
        }
    )
    path = tmp_path_factory.mktemp("own") / "my.csv"
    frame.to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def run(cli: Any, table: Path) -> Path:
    with dotted():
        found = cli("bench", "--preset", "table", "-o", f"data.id=table:{table}", "-o",
                    "data.target=kind", "-o", "data.hold_out=[bee]", *QUICK, "--json",
                    "--outdir", table.parent / "runs")  # fmt: skip
    assert found.status == 0, found.err
    return Path(json.loads(found.out)["run_dir"])


def scores(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_one_command_takes_a_table_to_the_report(cli: Any, run: Path) -> None:
    rows = json.loads((run / "results.json").read_text())["rows"]
    assert {row["ood"] for row in rows if row["group"] == "near"} == {"table_my_bee"}
    report = (run / "report.html").read_text()
    assert "taken for ant;" in report and "taken for cat;" in report
    assert "class ant, taken for" in report
    meta = RunDir(run).meta
    assert meta["classes"] == ["ant", "cat"]
    assert cli("verify", run).status == 0
    columns = json.loads((run / "columns.json").read_text())["columns"]
    assert [column["name"] for column in columns] == ["size", "colour"]
    assert columns[1]["categories"] == ["", "blue", "red"]


def test_a_table_is_scored_as_the_run_saw_it(cli: Any, run: Path, tmp_path: Path) -> None:
    splits = build_splits(RunDir(run).config.data)
    np.save(tmp_path / "x.npy", splits.test.inputs.numpy())
    assert splits.encoder is not None
    size, _ = splits.encoder.columns
    inputs = splits.test.inputs.double().numpy()
    frame = pd.DataFrame(
        {
            "other": "text",
            "colour": np.array(["", "blue", "red"])[inputs[:, 1:].argmax(1)],
            "size": inputs[:, 0] * size.scale + size.mean,
        }
    )  # type: ignore
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    for name in ("x.npy", "x.csv", "x.parquet"):
        output = tmp_path / f"{name}.csv"
        found = cli("score", run, "--input", tmp_path / name, "--output", output)
        assert found.status == 0, found.err
    expected = scores(tmp_path / "x.npy.csv")
    for name in ("x.csv", "x.parquet"):
        rows = scores(tmp_path / f"{name}.csv")
        assert [row["id"] for row in rows] == [str(i) for i in range(len(inputs))]
        for key in ("surprise", "p_value"):
            np.testing.assert_allclose(
                [float(row[key]) for row in rows], [float(row[key]) for row in expected], rtol=1e-3
            )


def test_what_is_unlike_the_training_table_is_told(cli: Any, run: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("size,colour\n1,red\n,violet\n3,\n")
    found = cli("score", run, "--input", f"table:{path}")
    assert found.status == 0, found.err
    assert "classes: 0 ant, 1 cat" in found.err
    assert f"{path}: missing numbers, taken as the mean of ID train: 1 in 'size'" in found.err
    assert f"{path}: categories that ID train lacks, taken as zeros: 1 in 'colour'" in found.err
    for content, words in (
        (
            "size,color\n1,red\n",
            "has no column 'colour'; did you mean 'color'? Found: color, size; needed: size, "
            "colour",
        ),
        ("size,colour\n1,red\nbig,red\n", "row 1, column 'size': found 'big', allowed: a number"),
        ("size,colour\n", "holds no row below the names of its columns"),
    ):
        path.write_text(content)
        found = cli("score", run, "--input", path)
        assert found.status == 2
        assert words in found.err


def test_a_table_for_a_run_of_pictures_is_refused(cli: Any, finished: Path, table: Path) -> None:
    found = cli("score", finished, "--input", table)
    assert found.status == 2
    assert f"{table}: is a table, allowed: inputs of the kind of the ID set" in found.err


@pytest.mark.slow
def test_a_graph_knows_the_columns(cli: Any, run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    (tmp_path / "x.csv").write_text("size,colour\n1,red\n12,blue\n5,violet\n")
    graph = tmp_path / "model.onnx"
    assert cli("export", run, "--output", graph).status == 0
    for model in (run, graph):
        output = tmp_path / f"{model.name}.csv"
        found = cli("score", model, "--input", tmp_path / "x.csv", "--output", output)
        assert found.status == 0, found.err
    ours, theirs = (scores(tmp_path / f"{model.name}.csv") for model in (run, graph))
    np.testing.assert_allclose(
        [float(row["surprise"]) for row in ours], [float(row["surprise"]) for row in theirs],
        rtol=1e-3,
    )  # fmt: skip


def test_calibration_inputs_are_added_from_a_table(
    cli: Any, run: Path, table: Path, tmp_path: Path
) -> None:
    more = pd.read_csv(table)
    more = more[more.kind == "ant"].head(30)
    more.to_csv(tmp_path / "more.csv", index=False)
    copy = tmp_path / "runs" / run.name
    shutil.copytree(run, copy)
    found = cli("calibrate", copy, "--add", tmp_path / "more.csv")
    assert found.status == 0, found.err
    (new,) = [path for path in copy.parent.iterdir() if path != copy]
    assert (new / "columns.json").read_bytes() == (run / "columns.json").read_bytes()
    assert cli("score", new, "--input", tmp_path / "more.csv").status == 0


EDITS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "other values": lambda f: f.assign(size=f["size"] * 2 + f.index % 5),
    "another unit": lambda f: f.assign(size=f["size"] * 1024),  # the same numbers, standardised
    "another name": lambda f: f.replace({"colour": {"blue": "green"}}),
    "more rows": lambda f: pd.concat([f, f.head(30)]),
}


@pytest.mark.parametrize("edit", EDITS)
def test_a_trained_run_refuses_a_file_that_changed(
    edit: str, cli: Any, tree: Any, run: Path, table: Path
) -> None:
    before, files = table.read_bytes(), tree(run)
    try:
        EDITS[edit](pd.read_csv(table)).to_csv(table, index=False)
        for command in ("bench", "train", "calibrate"):
            refused = cli(command, run)
            assert refused.status == 2
            told = " ".join(refused.err.split())
            assert f"{run}: seed 0 was trained on other rows than data.id, table:{table}, " in told
            assert "put the file back as it was, or begin a new run" in told
        assert tree(run) == files
    finally:
        table.write_bytes(before)
    assert cli("calibrate", run).status == 0


NEXT_MONTHS = {"gone": None, "a column more": lambda f: f.assign(weight=1.5)}


@pytest.mark.slow
@pytest.mark.parametrize("table_now", NEXT_MONTHS)
def test_a_run_scores_adds_and_is_exported_without_what_it_was_trained_on(
    table_now: str, cli: Any, run: Path, table: Path, tmp_path: Path
) -> None:
    def answers(name: str) -> tuple[bytes, list[dict[str, str]], Any]:
        """Scores of rows, the added calibration, and the graph's answer to one input."""
        table_of, graph = tmp_path / f"{name}.csv", tmp_path / f"{name}.pt2"
        done = [
            cli("score", run, "--input", new, "--output", table_of),
            cli("export", run, "--output", graph),
            cli("calibrate", run, "--add", new),
        ]
        assert [found.status for found in done] == [0, 0, 0], [found.err for found in done]
        added = next(path for path in run.parent.iterdir() if path.name not in runs)
        again = cli("score", added, "--input", new, "--output", tmp_path / f"{name}_added.csv")
        assert again.status == 0, again.err
        shutil.rmtree(added)
        program = torch.export.load(graph).module()
        answer = program(input=torch.ones(1, width), alpha=torch.tensor(0.05, dtype=torch.double))
        return table_of.read_bytes(), scores(tmp_path / f"{name}_added.csv"), answer["by_layer"]

    new, before = tmp_path / "new.csv", table.read_bytes()
    pd.read_csv(table).head(40).to_csv(new, index=False)
    width = RunDir(run).meta["input_shape"][0]
    runs = {path.name for path in run.parent.iterdir()}
    there = answers("there")
    edit = NEXT_MONTHS[table_now]
    try:
        if edit is None:
            table.unlink()
        else:
            edit(pd.read_csv(table)).to_csv(table, index=False)
        changed = answers("changed")
    finally:
        table.write_bytes(before)
    assert changed[:2] == there[:2]
    assert torch.equal(changed[2], there[2])


def test_a_run_of_before_its_metadata_had_the_shape_asks_for_its_data(
    cli: Any, run: Path, table: Path, tmp_path: Path
) -> None:
    old = shutil.copytree(run, tmp_path / "old")
    meta = json.loads((old / "meta.json").read_text())
    del meta["input_shape"], meta["sha256"]
    (old / "meta.json").write_text(json.dumps(meta))
    scored = cli("score", old, "--input", "uniform_noise")
    assert (scored.status, scored.out) == (0, cli("score", run, "--input", "uniform_noise").out)
    before = table.read_bytes()
    table.unlink()
    try:
        found = cli("score", old, "--input", "uniform_noise")
    finally:
        table.write_bytes(before)
    assert found.status == 2
    assert f"data: table:{table} is absent" in " ".join(found.err.split())


def test_a_file_that_changes_before_the_end_of_training_is_trained_on(
    cli: Any, run: Path, table: Path, tmp_path: Path
) -> None:
    opened = RunDir(shutil.copytree(run, tmp_path / run.name))
    with opened.claimed():
        forget(opened, [], "train/seed_0")
    before = table.read_bytes()
    try:
        EDITS["another name"](pd.read_csv(table)).to_csv(table, index=False)
        again = cli("train", opened.root)
        assert again.status == 0, again.err
        assert "green" in (opened.root / "columns.json").read_text()
    finally:
        table.write_bytes(before)


def test_a_run_asked_for_other_data_is_trained_again(cli: Any, run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / run.name)
    again = cli("train", copy, "-o", "data.drop=[colour]")
    assert again.status == 0, again.err
    assert "train was done before" not in again.err


@pytest.mark.slow
def test_rows_that_are_not_trained_on_repeat_what_depends_on_them(cli: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    y = np.arange(120) % 3
    part = np.array(["train", "train", "calibration", "test"])[np.arange(120) // 30]
    x = (random.normal(size=(120, 2)) + 4 * y[:, None]).astype(np.float32)
    path = tmp_path / "my.npz"
    np.savez(path, x=x, y=y, part=part)
    first = cli("bench", "--preset", "table", "-o", f"data.id=array:{path}", "-o",
                "data.split=part", "-o", "data.hold_out=[2]", *QUICK, "--json", "--outdir",
                tmp_path)  # fmt: skip
    assert first.status == 0, first.err
    run = json.loads(first.out)["run_dir"]
    for row, repeated in ((70, "calibrate"), (100, "score")):
        x[row] += 1
        np.savez(path, x=x, y=y, part=part)
        again = cli("bench", run)
        assert again.status == 0, again.err
        assert "train was done before" in again.err
        assert ("calibrate was done before" in again.err) == (repeated == "score")
        assert "score was done before" not in again.err
    assert "score was done before" in cli("bench", run).err


@pytest.mark.slow
def test_a_set_that_changed_under_its_path_is_scored_again(cli: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    near = tmp_path / "near.npy"
    values = random.normal(size=(40, 13))
    np.save(near, values)
    first = cli("bench", "--preset", "wine_1", "-o", f"data.near=[array:{near}]", "-o",
                "data.far=[]", "-o", "data.shift=[]", *QUICK, "--json", "--outdir",
                tmp_path)  # fmt: skip
    assert first.status == 0, first.err
    run = Path(json.loads(first.out)["run_dir"])
    assert "score was done before" in cli("bench", run).err
    rows = (run / "results.csv").read_bytes()
    np.save(near, values + 9)
    again = cli("bench", run)
    assert again.status == 0, again.err
    assert "calibrate was done before" in again.err
    assert "score was done before" not in again.err
    assert "ood_array_near changed since the last time: scored again" in again.err
    assert (run / "results.csv").read_bytes() != rows
    assert "changed since" not in cli("bench", run).err


@pytest.mark.slow
def test_pictures_that_changed_since_the_training_are_refused(cli: Any, tmp_path: Path) -> None:
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(90):
        folder = tmp_path / "pictures" / "abc"[number % 3]
        folder.mkdir(parents=True, exist_ok=True)
        pixels = random.integers(0, 80, (8, 8, 3)) + 60 * (number % 3)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    first = cli("bench", "--preset", "pictures", "-o", f"data.id=folder:{tmp_path / 'pictures'}",
                "-o", "data.hold_out=[2]", "-o", "data.image_size=8", "-o", "data.far=[]", "-o",
                "data.shift=[]", *QUICK, "--json", "--outdir", tmp_path)  # fmt: skip
    assert first.status == 0, first.err
    run = json.loads(first.out)["run_dir"]
    for path in (tmp_path / "pictures" / "a").glob("*.png"):
        Image.new("RGB", (8, 8), "red").save(path)
    for command in ("bench", "calibrate"):
        refused = cli(command, run)
        assert refused.status == 2, refused.err
        assert "seed 0 was trained on other rows than data.id, folder:" in refused.err


def test_series_from_a_ts_file(cli: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    lines = ["@classLabel true walk run swim", "@data"]
    for i in range(150):
        wave = np.sin(np.arange(16) * (1 + i % 3) / 2) + 0.1 * random.normal(size=(2, 16))
        channels = ":".join(",".join(f"{value:.4f}" for value in channel) for channel in wave)
        lines.append(f"{channels}:{['walk', 'run', 'swim'][i % 3]}")
    path = tmp_path / "my.ts"
    path.write_text("\n".join(lines) + "\n")
    found = cli("bench", "--preset", "series", "-o", f"data.id=series:{path}", "-o",
                "data.hold_out=[swim]", *QUICK, "--json", "--outdir", tmp_path)  # fmt: skip
    assert found.status == 0, found.err
    run = Path(json.loads(found.out)["run_dir"])
    assert cli("score", run, "--input", path, "--output", tmp_path / "s.csv").status == 0
    assert len(scores(tmp_path / "s.csv")) == 150
