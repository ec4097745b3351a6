"""Data by path that change between commands: what a run says of its files is true of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nervecode.lab.data.entry_points import as_dataset
from nervecode.lab.data.registry import DATASETS
from nervecode.lab.data.splits import build_splits
from nervecode.lab.run.adopt import adopt
from nervecode.lab.run.directory import RunDir
from nervecode.lab.sweep.launchers import LAUNCHERS
from tests.cli.test_sweep import here
from tests.command_line import dotted

PARTS = np.array(["train", "train", "calibration", "test"])[np.arange(160) // 40]
QUICK = ["-o", "train.epochs=2", "-o", "train.batch_size=32", "-o", "bench.detectors=[msp]", "-o",
         "data.far=[]", "-o", "data.shift=[]"]  # fmt: skip
FIGURES = ("results.csv", "results.json", "tables.md", "plots", "report.html")


def write(folder: Path, *, near: float = 0, **moved: float) -> None:
    """The files of a run; each part of the ID set, and the near set, may be moved by so much."""
    random = np.random.default_rng(0)
    y = np.arange(160) % 3
    x = random.normal(size=(160, 2)) + 4 * y[:, None]
    for part, distance in moved.items():
        x[part == PARTS] += distance
    np.savez(folder / "my.npz", x=x, y=np.array(["ant", "bee", "cat"])[y], part=PARTS)
    np.save(folder / "near.npy", random.normal(size=(40, 2)) - 3 + near)


@pytest.fixture(scope="module")
def finished(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write(folder)
    with dotted():
        done = cli("bench", "--preset", "table", "-o", f"data.id=array:{folder / 'my.npz'}", "-o",
                   "data.split=part", "-o", f"data.near=[array:{folder / 'near.npy'}]", *QUICK,
                   "--seeds", "0,1", "--json", "--outdir", folder / "runs")  # fmt: skip
    assert done.status == 0, done.err
    return Path(json.loads(done.out)["run_dir"])


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    write(finished.parent.parent)
    return shutil.copytree(finished, tmp_path / "mine")


def change(run: Path, **moved: float) -> None:
    """Change the data that a run names."""
    write(Path(RunDir(run).config.data.id.partition(":")[2]).parent, **moved)


def meta(run: Path) -> dict[str, Any]:
    return RunDir(run).meta


def data_now(run: Path) -> dict[str, str]:
    splits = build_splits(RunDir(run).config.data)
    parts = {"id_train": splits.train, **splits.evaluated()}
    return {name: samples.fingerprint for name, samples in parts.items()}


def scored(run: Path, seed: int = 0) -> list[Path]:
    """What there is of scores and layers of a seed."""
    return sorted(run.glob(f"*/seed_{seed}/*.npz"))


def is_true(cli: Any, run: Path) -> Mapping[str, Any]:
    """What `verify` says of a run whose files are all its own."""
    verdict = cli("verify", run, "--json")
    assert verdict.status == 0, verdict.err
    return json.loads(verdict.out)  # type: ignore[no-any-return]


def shows_no_figure(cli: Any, run: Path) -> None:
    """Neither on disk nor by any command that shows figures."""
    assert not [name for name in FIGURES[:3] if (run / name).exists()]
    assert not (run / "report.html").exists()
    assert not list(run.glob("plots/*"))
    assert meta(run)["gate"] == {"required": 0.0, "passed": None, "accuracy": {}}
    report = cli("report", run)
    assert report.status == 4
    assert f"results.json: is missing; `nervecode bench {run}` makes it" in report.err
    listed = cli("runs", run.parent, "--json")
    assert {row["headline"] for row in json.loads(listed.out)["runs"]} <= {"", "the disk is gone"}


@pytest.mark.slow
@pytest.mark.parametrize("command", ["train", "calibrate"])
def test_a_stage_that_reads_no_set_leaves_its_scores_and_what_is_said_of_them(
    command: str, cli: Any, run: Path
) -> None:
    before = meta(run)
    files = {name: (run / name).read_bytes() for name in ("results.csv", "report.html")}
    change(run, near=9)
    again = cli(command, run)
    assert again.status == 0, again.err
    assert f"seed 0: {command} was done before" in again.err
    assert (
        f"ood_array_near changed since the last scores; `nervecode bench {run}` scores again"
        in again.err
    )
    assert is_true(cli, run)["status"] == meta(run)["status"] == "complete"
    for key in ("datasets", "split_sizes", "stages", "gate", "device"):
        assert meta(run)[key] == before[key]
    assert {name: (run / name).read_bytes() for name in files} == files


def test_a_set_that_changed_is_scored_again_for_every_seed(cli: Any, run: Path) -> None:
    rows = (run / "results.csv").read_bytes()
    change(run, near=9)
    again = cli("bench", run)
    assert again.status == 0, again.err
    assert "ood_array_near changed since the last time: scored again" in again.err
    for seed in (0, 1):
        assert f"seed {seed}: calibrate was done before" in again.err
        assert f"seed {seed}: score was done before" not in again.err
    assert (run / "results.csv").read_bytes() != rows
    assert meta(run)["datasets"] == data_now(run)
    assert is_true(cli, run)["status"] == "complete"
    idle = cli("bench", run)
    assert "changed since" not in idle.err
    assert idle.err.count("score was done before") == 2


@pytest.mark.slow
def test_a_calibration_of_other_data_takes_scores_and_figures_with_it(cli: Any, run: Path) -> None:
    before = meta(run)["datasets"]
    drawn = cli("plot", run, "--kind", "roc", "--output", run / "plots" / "mine.png")
    assert drawn.status == 0, drawn.err
    change(run, calibration=1)
    again = cli("calibrate", run)
    assert again.status == 0, again.err
    assert "id_calibration changed since the last time: calibrated again" in again.err
    assert (
        "removed, as it no longer belongs to what is there: score/seed_0, score/seed_1, tables, "
        in (again.err)
    )
    assert f"`nervecode bench {run}` makes it again" in again.err
    shows_no_figure(cli, run)
    assert not [seed for seed in (0, 1) if scored(run, seed)]
    assert is_true(cli, run)["status"] == meta(run)["status"] == "partial"
    told = cli("verify", run)
    assert f"the run is partial: `nervecode bench {run}` goes on" in told.err
    assert meta(run)["datasets"]["id_calibration"] == data_now(run)["id_calibration"]
    assert meta(run)["datasets"]["id_calibration"] != before["id_calibration"]
    assert cli("plot", run, "--kind", "scores").status == 4
    assert cli("score", run, "--input", "uniform_noise").status == 0
    assert cli("bench", run).status == 0
    assert meta(run)["datasets"] == data_now(run)
    assert is_true(cli, run)["status"] == "complete"


def test_id_test_that_changed_leaves_calibrations(cli: Any, run: Path) -> None:
    change(run, test=1)
    assert "id_test changed since the last scores; " in cli("calibrate", run).err
    again = cli("bench", run)
    assert again.status == 0, again.err
    assert "id_test changed since the last time: scored again" in again.err
    assert again.err.count("calibrate was done before") == 2
    assert meta(run)["datasets"] == data_now(run)


@pytest.mark.slow
def test_a_training_of_other_settings_takes_all_that_followed_from_it(
    cli: Any, run: Path, finished: Path
) -> None:
    again = cli("train", run, "-o", "train.epochs=3")
    assert again.status == 0, again.err
    assert "removed, as it no longer belongs" in again.err
    assert set(meta(run)["stages"]) == {"train/seed_0", "train/seed_1"}
    shows_no_figure(cli, run)
    compared = cli("compare", finished, run, "--json")
    assert compared.status == 0, compared.err
    assert {entry["run"] for entry in json.loads(compared.out)["entries"]} == {finished.name}
    assert not (run / "calibration" / "seed_0.safetensors").exists()
    assert is_true(cli, run)["status"] == "partial"
    refused = cli("score", run, "--input", "uniform_noise")
    assert refused.status == 4
    assert "stage 'calibrate' is not done for seed 0" in refused.err
    assert cli("bench", run).status == 0
    assert is_true(cli, run)["status"] == "complete"


def test_another_config_alone_takes_the_figures_and_leaves_the_scores(cli: Any, run: Path) -> None:
    assert cli("train", run, "-o", "bench.detectors=[energy]").status == 0
    shows_no_figure(cli, run)
    assert len(scored(run)) == 6
    assert is_true(cli, run)["status"] == "partial"
    back = cli("bench", run, "-o", "bench.detectors=[msp]")
    assert back.status == 0, back.err
    assert back.err.count("score was done before") == 2


@pytest.mark.slow
def test_a_seed_more_is_scored_with_the_others_on_the_same_data(cli: Any, run: Path) -> None:
    change(run, near=9)
    grown = cli("train", run, "--seeds", "0,1,2")
    assert grown.status == 0, grown.err
    shows_no_figure(cli, run)
    assert meta(run)["datasets"]["ood_array_near"] != data_now(run)["ood_array_near"]
    assert is_true(cli, run)["status"] == "partial"
    benched = cli("bench", run)
    assert benched.status == 0, benched.err
    assert "score was done before" not in benched.err
    assert benched.err.count("train was done before") == 3
    assert meta(run)["datasets"] == data_now(run)


@pytest.mark.slow
def test_a_bench_that_is_cut_short_leaves_no_scores_of_other_data(
    cli: Any, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(run, near=9)
    with monkeypatch.context() as patch:
        patch.setattr("nervecode.lab.stages.score.combine", stop)
        assert cli("bench", run).status != 0
    assert meta(run)["datasets"] == data_now(run)
    assert not [key for key in meta(run)["stages"] if key.startswith("score/")]
    shows_no_figure(cli, run)
    assert cli("bench", run).status == 0
    assert is_true(cli, run)["status"] == "complete"


def stop(*_: object) -> None:
    raise OSError("the disk is gone")


def test_inputs_that_are_added_belong_to_the_calibration_they_are_added_to(
    cli: Any, run: Path, tmp_path: Path
) -> None:
    before = meta(run)
    change(run, near=9, calibration=1, test=1)
    np.save(tmp_path / "more.npy", np.random.default_rng(1).normal(size=(30, 2)))
    added = cli("calibrate", run, "--add", tmp_path / "more.npy")
    assert added.status == 0, added.err
    new = Path(added.out.split()[-1])
    kept = {name: before["datasets"][name] for name in ("id_train", "id_calibration")}
    assert meta(new)["datasets"] == kept
    (hop,) = meta(new)["stages"]["train/seed_1"]["adopted_from"]
    assert (hop["run_id"], hop["created"]) == (before["run_id"], before["created"])
    assert meta(new)["classes"] == ["ant", "bee", "cat"]
    assert meta(run) == before
    assert is_true(cli, new)["status"] == "partial"


def test_scores_of_new_inputs_name_the_classes_of_the_training(cli: Any, run: Path) -> None:
    path = Path(RunDir(run).config.data.id.partition(":")[2])
    with np.load(path) as file:
        arrays = dict(file)
    arrays["y"] = np.array(["x", "y", "z"])[np.unique(arrays["y"], return_inverse=True)[1]]
    np.savez(path, **arrays)
    scored = cli("score", run, "--input", "uniform_noise")
    assert scored.status == 0, scored.err
    assert "classes: 0 ant, 1 bee, 2 cat" in scored.err
    benched = cli("bench", run)  # the same inputs under other names: the same scores, other pages
    assert benched.err.count("score was done before") == 2
    assert meta(run)["classes"] == ["x", "y", "z"]
    assert is_true(cli, run)["status"] == "complete"


def test_files_that_follow_from_what_is_gone_are_told_and_not_read(cli: Any, run: Path) -> None:
    """As a process that was killed in the middle leaves them, or an older release."""
    opened = RunDir(run)
    stages = json.loads(json.dumps(opened.meta["stages"]))
    stages["calibrate/seed_1"]["inputs"]["checkpoint"] = 64 * "0"
    opened.update(stages=stages)
    verdict = cli("verify", run)
    assert verdict.status == 4
    words = "was made from what has since been replaced"
    for name in ("calibration/seed_1.safetensors", "scores/seed_1/id_test.npz", "results.csv"):
        assert f"{run / name}: {words}" in verdict.err
    assert f"{run / 'scores/seed_0/id_test.npz'}: {words}" not in verdict.err
    for command in (("report", run), ("plot", run, "--seed", 1), ("compare", run, run.parent)):
        refused = cli(*command)
        assert refused.status in (2, 4), command
    refused = cli("score", run, "--input", "uniform_noise", "--seed", 1)
    assert refused.status == 4
    assert "seed_1.safetensors: is stale (what it was made from has since been replaced); " in (
        refused.err
    )
    assert cli("score", run, "--input", "uniform_noise", "--seed", 0).status == 0
    assert cli("bench", run).status == 0
    assert is_true(cli, run)["status"] == "complete"


def test_calibration_waits_for_the_training_that_the_config_asks_for(cli: Any, run: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nervecode.lab.stages.train.build_trainer", stop)
        assert cli("train", run, "-o", "train.epochs=3").status != 0
    refused = cli("calibrate", run)
    assert refused.status == 4
    assert cli("train", run).status == 0
    assert cli("calibrate", run).status == 0


@pytest.mark.slow
def test_an_adopted_training_of_other_rows_is_done_again(
    cli: Any, finished: Path, tmp_path: Path
) -> None:
    write(finished.parent.parent)
    run = adopt(RunDir(finished).config, tmp_path, [finished.parent], command="x")
    assert run is not None
    change(run.root, train=1)
    benched = cli("bench", run.root)
    assert benched.status == 0, benched.err
    assert "train was done before" not in benched.err
    assert "adopted_from" not in meta(run.root)["stages"]["train/seed_0"]
    assert meta(run.root)["datasets"] == data_now(run.root)
    change(run.root, train=2)
    assert "seed 0 was trained on other rows than data.id" in cli("bench", run.root).err


@pytest.mark.slow
def test_a_sweep_tells_that_cells_have_other_data(
    cli: Any, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LAUNCHERS, "local", here)
    write(finished.parent.parent)
    folder, config = tmp_path / "cells", tmp_path / "table.yaml"
    shutil.copyfile(finished / "config.yaml", config)
    first = cli("sweep", config, "-o", "train.epochs=1", "--outdir", folder)
    assert first.status == 0, first.err
    assert "Not the same data" not in first.err
    kept, again = (path.parent for path in folder.glob("*/meta.json"))
    shutil.rmtree(again)
    write(finished.parent.parent, near=9)
    on = cli("sweep", "--outdir", folder)
    assert on.status == 0, on.err
    assert f"Not the same data in every cell: ood_array_near; `nervecode bench {folder}/CELL` " in (
        on.err
    )
    assert cli("bench", kept).status == 0
    assert "Not the same data" not in cli("sweep", "--outdir", folder).err


# Sets by name, as an installed package offers them


@pytest.fixture(scope="module")
def named(cli: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run on a set that `offer` gives; its data are the last that were offered."""
    folder = tmp_path_factory.mktemp("named")
    with dotted(), pytest.MonkeyPatch.context() as patch:
        offer(patch)
        done = cli("bench", "--preset", "table", "-o", "data.id=acme_rings", *QUICK, "-o",
                   "data.near=[]", "-o", "data.far=[uniform_noise]", "--seeds", "0,1", "--json",
                   "--outdir", folder)  # fmt: skip
    assert done.status == 0, done.err
    return Path(json.loads(done.out)["run_dir"])


def offer(patch: pytest.MonkeyPatch, *, seed: int | None = 0) -> None:
    """A set whose rows lie in the order that a seed draws, or in another each time."""

    def rings() -> object:
        random = np.random.default_rng(0)
        y = np.arange(160) % 3
        x = random.normal(size=(160, 2)) + 4 * y[:, None]
        order = np.random.default_rng(seed).permutation(160)
        return as_dataset("acme_rings", (x[order], y[order]))

    patch.setitem(DATASETS, "acme_rings", rings)


def of_before(run: Path, to: Path) -> Path:
    """The run as releases left it whose trainings did not note their rows."""
    old = RunDir(shutil.copytree(run, to))
    stages = json.loads(json.dumps(old.meta["stages"]))
    for key in ("train/seed_0", "train/seed_1"):
        assert stages[key]["inputs"].pop("id_train") == old.meta["datasets"]["id_train"]
    old.update(stages=stages)
    return old.root


@pytest.mark.slow
@pytest.mark.parametrize("age", ["of today", "of before"])
@pytest.mark.parametrize("seed", [1, None], ids=["another order", "unseeded"])
def test_a_set_by_name_that_gives_other_rows_is_refused(
    seed: int | None, age: str, cli: Any, named: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, tree: Any,
) -> None:  # fmt: skip
    run = named if age == "of today" else of_before(named, tmp_path / "old")
    files = tree(run)
    offer(monkeypatch, seed=seed)
    for words in (
        ("bench", run),
        ("train", run),
        ("calibrate", run),
        ("verify", run, "--reproduce"),
    ):
        refused = cli(*words)
        assert refused.status == 2, words
        told = " ".join(refused.err.split())
        assert (
            f"{run}: seed 0 was trained on other rows than data.id, acme_rings, gives now" in told
        )
        assert "put back what it reads, if it gives the same rows each time, or begin a new" in told
    assert tree(run) == files


@pytest.mark.slow
def test_a_run_of_before_goes_on_with_the_same_rows(
    cli: Any, named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = of_before(named, tmp_path / "old")
    before = meta(run)
    offer(monkeypatch)
    again = cli("bench", run)
    assert again.status == 0, again.err
    for stage in ("train", "calibrate", "score"):
        assert again.err.count(f"{stage} was done before") == 2
    assert meta(run)["stages"] == before["stages"]
    longer = cli("train", run, "-o", "train.epochs=3")
    assert longer.status == 0, longer.err
    assert "train was done before" not in longer.err
    rows = {meta(run)["stages"][f"train/seed_{seed}"]["inputs"]["id_train"] for seed in (0, 1)}
    assert rows == {before["datasets"]["id_train"]}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_a_training_of_before_is_adopted_where_the_rows_are_the_same(
    seed: int, cli: Any, named: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = RunDir(of_before(named, tmp_path / "old" / "run"))
    run = adopt(source.config, tmp_path / "new", [tmp_path / "old"], command="x")
    assert run is not None
    offer(monkeypatch, seed=seed)
    benched = cli("bench", run.root)
    assert benched.status == 0, benched.err
    assert benched.err.count("train was done before") == (2 if seed == 0 else 0)
    assert meta(run.root)["datasets"] == data_now(run.root)


@pytest.mark.slow
def test_names_that_no_package_offers_any_more_are_told_with_the_package_that_did(
    cli: Any, named: Path, tmp_path: Path
) -> None:
    run = RunDir(shutil.copytree(named, tmp_path / "run"))
    about = {"package": "acme", "version": "0.1", "sha256": None}
    run.update(packages={"dataset acme_rings": about})
    told = "dataset 'acme_rings' was that of acme 0.1 when the run was made; none offers it now"
    np.save(tmp_path / "x.npy", np.zeros((3, 2)))
    for words in (("bench",), ("train",), ("verify", "--reproduce")):
        refused = cli(words[0], run.root, *words[1:])
        assert refused.status == 2, words
        assert told in " ".join(refused.err.split()), words
        assert "Allowed" not in refused.err
    for words in (("score", "--input", tmp_path / "x.npy"),
                  ("calibrate", "--add", tmp_path / "x.npy"),
                  ("export", "--output", tmp_path / "x.pt2")):  # fmt: skip
        served = cli(words[0], run.root, *words[1:])  # they need none of the data
        assert served.status == 0, served.err
        assert (told in " ".join(served.err.split())) == (words[0] == "score"), served.err
    other = cli("bench", run.root, "-o", "data.id=acme_ringz")
    assert "unknown dataset 'acme_ringz'; Allowed: " in " ".join(other.err.split())
