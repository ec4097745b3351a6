"""Trackers: what they are told, and that none that fails stops a run."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from nervecode.errors import InputError, MissingExtraError
from nervecode.lab.machine import tracking
from nervecode.lab.machine.tracking import TRACKERS, Tracker, Tracking, check_trackers

ROW = {"epoch": 1, "loss": 0.5, "accuracy": 0.75}
LAYERS = [{"epoch": 1, "layer": "v0_1_1:blocks.0", "entropy": 1.25, "utilisation": 0.5}]
VALUES = {"loss": 0.5, "accuracy": 0.75, "v0_1_1:blocks.0/entropy": 1.25,
          "v0_1_1:blocks.0/utilisation": 0.5}  # fmt: skip


class Listener(Tracker):
    """Keeps what it is told; the tests below have some that fail."""

    needs = "numpy"
    told: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self, folder: Path, run: str) -> None:
        self.told.append(("open", folder, run))

    def figures(self, seed: int, step: int, values: Mapping[str, float]) -> None:
        self.told.append(("figures", seed, step, values))

    def table(self, name: str, markdown: str) -> None:
        self.told.append(("table", name, markdown))

    def picture(self, name: str, path: Path) -> None:
        self.told.append(("picture", name, path))

    def close(self) -> None:
        self.told.append(("close",))


@pytest.fixture(autouse=True)
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[object, ...]]]:
    monkeypatch.setitem(TRACKERS, "listener", Listener)
    Listener.told.clear()
    yield Listener.told


@pytest.fixture
def warned() -> list[str]:
    return []


def use(found: Tracking, picture: Path) -> None:
    found.epoch(0, ROW, LAYERS)
    found.table("tables", "| a |")
    found.picture("plot", picture)
    found.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (30, 20), (255, 0, 0)).save(tmp_path / "plot.png")
    return tmp_path / "plot.png"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "runs/digits-1").mkdir(parents=True)
    return tmp_path / "runs/digits-1"


def test_a_tracker_is_told_in_order(
    run: Path, picture: Path, told: list[tuple[object, ...]], warned: list[str]
) -> None:
    found = Tracking(["listener"], run, warn=warned.append)
    found.picture("vector", run / "plot.svg")  # no tracker shows those
    use(found, picture)
    assert told == [
        ("open", run.parent / "tracking", "digits-1"),
        ("figures", 0, 1, VALUES),
        ("table", "tables", "| a |"),
        ("picture", "plot", picture),
        ("close",),
    ]
    assert warned == []
    assert list(run.iterdir()) == []  # a run holds its own files alone


def test_tensorboard_has_what_it_was_told(run: Path, picture: Path, warned: list[str]) -> None:
    pytest.importorskip("tensorboard", reason="no tensorboard: pip install -e '.[tracking]'")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    use(Tracking(["tensorboard"], run, warn=warned.append), picture)
    assert warned == []
    folder = run.parent / "tracking/tensorboard/digits-1"
    events = EventAccumulator(str(folder / "seed_0")).Reload()
    read = {tag: events.Scalars(tag)[0] for tag in events.Tags()["scalars"]}
    assert {tag: (one.step, one.value) for tag, one in read.items()} == {
        name: (1, value) for name, value in VALUES.items()
    }
    results = EventAccumulator(str(folder / "results")).Reload()
    (shown,) = results.Images("plot")
    assert (shown.width, shown.height) == (30, 20)
    assert results.Tags()["tensors"] == ["tables/text_summary"]


def test_mlflow_has_what_it_was_told_and_goes_on(
    run: Path, picture: Path, warned: list[str]
) -> None:
    pytest.importorskip("mlflow", reason="no mlflow: pip install -e '.[tracking]'")
    use(Tracking(["mlflow"], run, warn=warned.append), picture)
    again = Tracking(["mlflow"], run, warn=warned.append)
    again.epoch(0, {"epoch": 2, "loss": 0.25}, [])
    again.close()
    assert warned == []

    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=(run.parent / "tracking/mlflow").as_uri())
    experiment = client.get_experiment_by_name("digits-1")
    assert experiment is not None
    runs = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"seed_0", "results"}
    assert runs["seed_0"].info.status == "FINISHED"
    assert runs["seed_0"].data.metrics == {**VALUES, "loss": 0.25}
    losses = client.get_metric_history(runs["seed_0"].info.run_id, "loss")
    assert [(one.step, one.value) for one in losses] == [(1, 0.5), (2, 0.25)]
    artifacts = {one.path for one in client.list_artifacts(runs["results"].info.run_id)}
    assert artifacts == {"tables.md", "pictures"}


@pytest.mark.parametrize("where", ["__init__", "figures", "table", "picture", "close"])
def test_one_that_fails_warns_once_and_the_others_go_on(
    where: str,
    run: Path,
    picture: Path,
    told: list[tuple[object, ...]],
    warned: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(*_: object) -> None:
        raise OSError("no space\nleft")

    monkeypatch.setitem(TRACKERS, "broken", type("Broken", (Listener,), {where: fails}))
    found = Tracking(["broken", "listener"], run, warn=warned.append)
    found.epoch(0, ROW, LAYERS)
    use(found, picture)
    assert warned == ["tracking: broken failed and is left out from here (OSError: no space left)"]
    assert [one[0] for one in told].count("close") >= 1


def test_unknown_and_missing_trackers_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers([])
    with pytest.raises(InputError, match=r"unknown 'tensorbord'; did you mean 'tensorboard'\?"):
        check_trackers(["tensorbord"])
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        MissingExtraError,
        match=r"--track mlflow needs mlflow, which is not installed; .*-e '\.\[tracking\]'",
    ):
        check_trackers(["mlflow"])


def test_names_that_mlflow_refuses_are_changed() -> None:
    assert tracking._mlflow_name("a:b/c d*é~") == "a:b/c d_é_"
    assert np.char.count(tracking._mlflow_name("***"), "_") == 3
