"""Adoption: a run that begins with the trainings of another, only where the same was asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from nervecode.errors import ArtifactError
from nervecode.lab.config.resolve import resolve
from nervecode.lab.run.adopt import adopt
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.verify import verify_run
from nervecode.lab.schema import Config
from nervecode.viz.report import render_report
from tests.lab.stages.test_bench import again, bench

SMALL = (
    "bench.detectors=[msp]", "bench.limit_eval=20", "bench.accuracy_gate=0", "model.width=8",
    "train.epochs=1", "data.far=[uniform_noise]", "data.shift=[]",
)  # fmt: skip


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    config = resolve(preset="digits", overrides=SMALL, settings={"name": "one", "seeds": [0, 1]})
    return bench(config.config, tmp_path_factory.mktemp("elsewhere"))[0]


def other(*overrides: str, seeds: tuple[int, ...] = (0, 1)) -> Config:
    found = {"name": "two", "seeds": list(seeds)}
    return resolve(preset="digits", overrides=[*SMALL, *overrides], settings=found).config


def events(run: RunDir) -> str:
    return (run.root / "log.jsonl").read_text()


@pytest.mark.slow
def test_a_setting_with_other_codes_and_outliers_trains_no_more(
    source: RunDir, tmp_path: Path
) -> None:
    codes = ("signals.nervecode_max={reduce: max}", "signals.nervecode_v0_1_1.aggregation=max")
    config = other(*codes, "data.far=[gaussian_noise]")
    run = adopt(config, tmp_path, [source.root.parent], command="x")
    assert run is not None
    again(run)
    for seed in (0, 1):
        assert run.paths.checkpoint(seed).read_bytes() == source.paths.checkpoint(seed).read_bytes()
        assert f'"event": "skip", "stage": "train/seed_{seed}"' in events(run)
    assert f'"event": "adopt", "source": "{source.root.name}"' in events(run)
    assert '"start", "stage": "train' not in events(run)
    assert (run.root / "results.json").is_file()
    assert run.status == source.status == "complete"


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        other("train.epochs=2"),
        other("model.width=9"),
        other("data.hold_out=[1, 2]"),
        other("signals.nervecode_v0_1_1.num_codes=4"),
        other(seeds=(0, 1, 2)),
    ],
    ids=["train", "model", "data", "learned codes", "a seed more"],
)
def test_another_training_is_not_adopted(config: Config, source: RunDir, tmp_path: Path) -> None:
    assert adopt(config, tmp_path, [source.root.parent], command="x") is None
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_fewer_seeds_are_taken_and_the_newest_run_and_no_folder_is_no_error(
    source: RunDir, tmp_path: Path
) -> None:
    first = adopt(other(seeds=(1,)), tmp_path / "a", [source.root.parent], command="x")
    assert first is not None
    assert list(first.meta["stages"]) == ["train/seed_1"]
    assert not first.paths.checkpoint(0).exists()
    assert adopt(other(), tmp_path / "b", [tmp_path / "nowhere"], command="x") is None


def test_each_seed_may_come_from_another_run(source: RunDir, tmp_path: Path) -> None:
    folders = [source.root.parent]
    cells = [adopt(other(seeds=(s,)), tmp_path / "cells", folders, command="x") for s in (0, 1)]
    run = adopt(other(seeds=(1, 0)), tmp_path / "b", [tmp_path / "cells"], command="x")
    assert run is not None
    assert list(run.meta["stages"]) == ["train/seed_1", "train/seed_0"]
    for seed, cell in enumerate(cells):
        assert cell is not None
        assert run.paths.checkpoint(seed).read_bytes() == cell.paths.checkpoint(seed).read_bytes()
        assert f'"source": "{cell.root.name}", "seed": {seed}' in events(run)
    manifest = json.loads((run.paths.checkpoint(0).parent / "checkpoint_manifest.json").read_text())
    assert sorted(manifest) == ["seed_0.safetensors", "seed_1.safetensors"]
    assert not verify_run(run).faults


def test_a_damaged_training_is_refused(source: RunDir, tmp_path: Path) -> None:
    copy = adopt(other(), tmp_path / "a", [source.root.parent], command="x")
    assert copy is not None
    copy.paths.checkpoint(1).write_bytes(b"no weights")
    with pytest.raises(ArtifactError, match=r"seed_1\.safetensors: is damaged"):
        adopt(other(), tmp_path / "b", [tmp_path / "a"], command="x")


OTHER = {
    "versions": {"python": "3.99", "nervecode": "9", "torch": "9.9"},
    "git_commit": "9999999",
    "hardware": {"system": "another", "processor": "another", "cores": 99},
}


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is done now is done with other packages, on another machine."""
    for module in ("run.meta", "stages.bench"):
        monkeypatch.setattr(f"nervecode.lab.{module}.provenance", lambda: OTHER)


def made_with(run: RunDir, stage: str) -> dict[str, Any]:
    made: dict[str, Any] = run.meta["stages"][stage]["made_with"]
    return made


@pytest.mark.usefixtures("elsewhere")
def test_an_adopted_training_keeps_what_it_was_made_with_and_says_whence_it_came(
    source: RunDir, tmp_path: Path
) -> None:
    run = adopt(other(seeds=(0,)), tmp_path / "a", [source.root.parent], command="x")
    assert run is not None
    again(run)
    keys = ("versions", "git_commit", "hardware", "device", "determinism")
    assert made_with(run, "train/seed_0") == {key: source.meta[key] for key in keys}
    assert made_with(run, "train/seed_0")["versions"]["torch"] != "9.9"
    for stage in ("calibrate/seed_0", "score/seed_0"):
        assert made_with(run, stage).items() >= OTHER.items()
    assert {key: run.meta[key] for key in OTHER} == OTHER
    record = run.meta["stages"]["train/seed_0"]
    (hop,) = record["adopted_from"]
    assert (hop["run_id"], hop["created"]) == (source.root.name, source.meta["created"])
    assert source.meta["created"] <= hop["adopted"] <= run.meta["updated"]
    assert str(source.root.parent) not in json.dumps(record)
    page = render_report(run.root)
    assert f"adopted from {source.root.name} on {hop['adopted']}" in page
    assert f"torch {source.meta['versions']['torch']}" in page


@pytest.mark.usefixtures("elsewhere")
def test_a_training_that_is_adopted_twice_names_both_runs_and_the_first_makers(
    source: RunDir, tmp_path: Path
) -> None:
    first = adopt(other(seeds=(0,)), tmp_path / "a", [source.root.parent], command="x")
    assert first is not None
    second = adopt(other(seeds=(0,)), tmp_path / "b", [tmp_path / "a"], command="x")
    assert second is not None
    hops = second.meta["stages"]["train/seed_0"]["adopted_from"]
    assert [hop["run_id"] for hop in hops] == [first.root.name, source.root.name]
    assert made_with(second, "train/seed_0") == made_with(source, "train/seed_0")


@pytest.mark.usefixtures("elsewhere")
def test_a_record_that_does_not_say_has_what_its_run_says(source: RunDir, tmp_path: Path) -> None:
    """As an older release left it."""
    old = RunDir(shutil.copytree(source.root, tmp_path / "old" / source.root.name))
    stages = {
        key: {name: value for name, value in record.items() if name != "made_with"}
        for key, record in old.meta["stages"].items()
    }
    old.update(stages=stages, git_commit="1234567")
    run = adopt(other(seeds=(1,)), tmp_path / "a", [tmp_path / "old"], command="x")
    assert run is not None
    assert made_with(run, "train/seed_1")["git_commit"] == "1234567"
    assert made_with(run, "train/seed_1")["versions"] == source.meta["versions"]
