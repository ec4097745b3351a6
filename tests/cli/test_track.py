"""`--track`: a run with trackers that fail is the run that it would have been without."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.machine.tracking import TRACKERS, Tracker
from nervecode.lab.run.directory import RunDir

TOLD: list[tuple[Any, ...]] = []


class Listener(Tracker):
    needs = "numpy"

    def __init__(self, folder: Path, run: str) -> None:
        pass

    def figures(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        TOLD.append(("figures", seed, step, values))

    def table(self, name: str, markdown: str) -> None:
        TOLD.append(("table", name))

    def picture(self, name: str, path: Path) -> None:
        TOLD.append(("picture", name))

    def close(self) -> None:
        TOLD.append(("close",))


class Broken(Listener):
    def figures(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        raise RuntimeError("no server")


@pytest.fixture(autouse=True)
def trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    TOLD.clear()
    monkeypatch.setitem(TRACKERS, "listener", Listener)
    monkeypatch.setitem(TRACKERS, "broken", Broken)


@pytest.mark.slow
def test_a_bench_tells_epochs_layers_tables_and_pictures(
    cli: Any, tiny_file: Path, tmp_path: Path, finished: Path
) -> None:
    found = cli("bench", "--config", tiny_file, "--outdir", tmp_path / "runs",
                "--track", "listener", "--track", "broken")  # fmt: skip
    assert found.status == 0
    assert found.err.count("tracking: broken failed and is left out from here") == 1
    (made,) = (tmp_path / "runs").glob("tiny-*")
    metrics = [one for one in TOLD if one[0] == "figures"]
    assert [one[1:3] for one in metrics] == [(seed, epoch) for seed in (0, 1) for epoch in (1, 2)]
    columns = (made / "metrics/seed_0.csv").read_text().splitlines()[0].split(",")
    assert set(columns[1:]) <= set(metrics[0][3])
    assert any(name.endswith("/utilisation") for name in metrics[0][3])
    assert ("table", "tables") in TOLD and ("picture", "layerwise_seed_0") in TOLD
    assert TOLD[-1] == ("close",)
    same = "results.csv"
    assert (made / same).read_bytes() == (finished / same).read_bytes()
    assert cli("verify", made).status == 0
    assert "tracking: broken failed" in (made / "run.log").read_text()


def test_training_is_tracked_too_and_the_environment_may_ask_for_it(
    cli: Any, tiny_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NERVECODE_TRACK", "listener")
    found = cli("train", "--config", tiny_file, "--outdir", tmp_path, "--seeds", "0")
    assert found.status == 0
    assert [one[0] for one in TOLD] == ["figures", "figures", "close"]


@pytest.mark.parametrize("command", ["train", "bench"])
def test_an_unknown_tracker_is_refused_before_anything_is_written(
    cli: Any, tiny_file: Path, tmp_path: Path, command: str
) -> None:
    found = cli(command, "--config", tiny_file, "--outdir", tmp_path / "runs", "--track", "tensor")
    assert found.status == 2
    assert "--track: unknown 'tensor'; did you mean 'tensorboard'?" in found.err
    assert not (tmp_path / "runs").exists()


def test_folders_of_trackers_are_no_runs(cli: Any, run_copy: Path) -> None:
    (run_copy.parent / "tracking" / "mlflow").mkdir(parents=True)
    assert cli("runs", run_copy.parent).status == 0
    assert RunDir(run_copy).status == "complete"
