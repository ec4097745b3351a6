"""The CIFAR laboratory from the command line, on archives that stand in for the real ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.locate import VARIABLE
from nervecode.lab.data.splits import build_splits
from nervecode.lab.run.directory import RunDir
from tests.rehearsal import make, trust

SETS = ("cifar10", "cifar100", "svhn", "dtd")
# Of width 8: below, oneDNN without AVX-512 crashes in the gradient of a 1 x 1 convolution.
SMALL = (
    "-o", "model.width=8", "-o", "bench.limit_eval=40", "-o", "bench.options.knn.k=5",
    "-o", "threads=1", "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with small archives, trusted, and a data folder that is empty."""
    folder = tmp_path_factory.mktemp("archives")
    with pytest.MonkeyPatch.context() as patch:
        trust(make(folder, list(SETS), train=300, test=60), patch)
        patch.setenv(VARIABLE, str(folder / "data"))
        yield folder


@pytest.fixture(scope="module")
def fetched(cli: Any, archives: Path) -> Any:
    return cli("data", "fetch", *SETS, "--from", archives)


def test_presets_without_their_data_say_what_is_missing(
    cli: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "none"))
    wanted = {"demo": SETS, "openood_cifar10": (*SETS, "tiny_imagenet", "mnist", "places365")}
    for preset, names in wanted.items():
        found = cli("bench", "--preset", preset, "--outdir", tmp_path / "runs")
        assert found.status == 2
        lines = found.err.splitlines()
        assert len(lines) == len(names)
        for name in names:
            (line,) = [line for line in lines if f"data: {name} is absent from {tmp_path}" in line]
            assert line.endswith(f"get it: nervecode data fetch {name}")
    assert not (tmp_path / "runs").exists()


def test_archives_of_several_sets_come_from_one_folder(fetched: Any, archives: Path) -> None:
    assert fetched.status == 0, fetched.err
    assert fetched.out.splitlines() == [f"{name}: {archives}/data/{name}" for name in SETS]
    assert sorted(path.name for path in (archives / "data").iterdir()) == sorted(SETS)


def test_a_folder_without_the_archive_names_it(cli: Any, archives: Path, tmp_path: Path) -> None:
    found = cli("data", "fetch", "stl10", "--from", tmp_path)
    assert found.status == 2
    assert f"{tmp_path}: holds no stl10_binary.tar.gz, nor what is in it" in found.err


def test_a_full_disk_is_a_failure(
    cli: Any, archives: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = CATALOGUE["svhn"]
    assert entry.archives is not None
    huge = replace(entry, archives=replace(entry.archives, megabytes=10**12))
    monkeypatch.setitem(CATALOGUE, "svhn", huge)
    found = cli("data", "fetch", "svhn", "--from", archives)
    assert found.status == 1
    assert "data: no space for svhn in" in found.err


@pytest.mark.slow
def test_the_demo_runs_on_a_rehearsal_and_says_demo(cli: Any, fetched: Any, tmp_path: Path) -> None:
    found = cli("bench", "--preset", "demo", "--outdir", tmp_path, "--json", *SMALL)
    assert found.status == 0, found.err
    run = RunDir(json.loads(found.out)["run_dir"])
    assert (run.root / "DEMO_MODE.txt").exists()
    assert "DEMO: demo: AUROC ↑ by group" in (run.root / "tables.md").read_text()
    splits = build_splits(run.config.data, limit_eval=40)
    assert run.meta["datasets"]["ood_svhn"] == splits.ood[1].samples.fingerprint
    assert run.meta["datasets"]["id_train"] == splits.train.fingerprint
    assert run.meta["split_sizes"] == {
        "id_train": 285, "id_calibration": 15, "id_test": 40,
        "ood_cifar100": 40, "ood_svhn": 40, "ood_dtd": 40,
    }  # fmt: skip
    rows = list(csv.DictReader((run.root / "results.csv").open()))
    assert {row["status"] for row in rows} == {"ok"}
    assert {"odin", "nervecode", "nervecode_v0_1_1", "combo_id_zscore_equal"} <= {
        row["method"] for row in rows
    }


@pytest.mark.slow
def test_a_new_option_of_a_detector_scores_again(cli: Any, fetched: Any, tmp_path: Path) -> None:
    settings = ("-o", "bench.detectors=[knn, energy, mahalanobis]", *SMALL)
    first = cli("bench", "--preset", "demo", "--outdir", tmp_path, "--json", *settings)
    root = Path(json.loads(first.out)["run_dir"])
    before = (root / "run.log").read_text()
    again = cli("bench", root, "--json", "-o", "bench.options.knn.k=1")
    assert again.status == 0, again.err
    told = (root / "run.log").read_text().removeprefix(before)
    assert "score seed 123" in told
    assert "seed 123: train was done before" in told

    def figures(found: Any, method: str) -> list[float]:
        rows = json.loads(found.out)["rows"]
        return [row["auroc"] for row in rows if row["method"] == method]

    assert figures(first, "knn") != figures(again, "knn")
    assert figures(first, "energy") == figures(again, "energy")


def test_a_gate_above_one_is_refused(cli: Any, fetched: Any, tmp_path: Path) -> None:
    found = cli("bench", "--preset", "demo", "--accuracy-gate", "1.5", "--outdir", tmp_path)
    assert found.status == 2
    assert "bench.accuracy_gate: found 1.5, allowed: less than or equal to 1" in found.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_the_toy_reaches_the_figure_of_0_1_1(cli: Any, tmp_path: Path) -> None:
    found = cli("bench", "--preset", "toy", "--seeds", "0", "--outdir", tmp_path, "--json")
    assert found.status == 0, found.err
    rows = {row["method"]: row for row in json.loads(found.out)["rows"]}
    assert rows["nervecode"]["auroc"] >= 0.99
    assert rows["energy"]["auroc"] < 0.5  # far away, a perceptron is at its surest
