"""What installed packages offer: known by their metadata, loaded where it is looked up."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np
import pytest
import torch

from nervecode.errors import InputError
from nervecode.lab.config.packages import changes, packages
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.entry_points import as_dataset
from nervecode.lab.data.registry import AS_DATASET
from nervecode.lab.data.samples import Samples
from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.registry import Registry

ROOT = Path(__file__).parents[2]
MODULE = '''
"""A package that offers one of each."""
from pathlib import Path

import torch
from torch import nn

Path(__file__).with_name("loaded").touch()


def net(shape, num_classes):
    return nn.Sequential(nn.Linear(shape[0], 8), nn.ReLU(), nn.Linear(8, num_classes))


def rings():
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(300) % 3
    angle = torch.rand(300, generator=generator) * 6.28
    x = torch.stack([angle.cos(), angle.sin()], 1) * (1 + y).unsqueeze(1)
    return x + 0.05 * torch.randn(300, 2, generator=generator), y


def farness(train, model, *, power: float = 1.0):
    """How far from the middle of ID train."""
    middle = train.features.mean(0)
    return lambda features: (features.features - middle).norm(dim=1) ** power
'''
POINTS = {
    "nervecode.models": {"acme_net": "acme_offers:net", "mlp": "acme_offers:net",
                         "acme_gone": "acme_offers:gone"},
    "nervecode.datasets": {"acme_rings": "acme_offers:rings"},
    "nervecode.detectors": {"acme_farness": "acme_offers:farness"},
}  # fmt: skip


def install(folder: Path, name: str = "acme", points: dict[str, dict[str, str]] = POINTS) -> None:
    """As pip would: a module and its metadata on the path."""
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    lines = []
    for group, entries in points.items():
        lines += [f"[{group}]", *(f"{key} = {value}" for key, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (folder / "acme_offers.py").write_text(MODULE)


def command(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    words = [sys.executable, "-m", "nervecode", *map(str, arguments)]
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    install(tmp_path)
    yield tmp_path
    sys.modules.pop("acme_offers", None)


def registry(**entries: object) -> Registry[object]:
    return Registry("model", entries, group="nervecode.models", adapt=lambda name, value: value)


def test_names_are_known_before_anything_is_loaded(place: Path) -> None:
    models = registry(mlp=1)
    assert list(models) == ["mlp", "acme_gone", "acme_net"]
    assert "acme_net" in models
    assert not (place / "loaded").exists()
    assert models["acme_net"].__name__ == "net"  # type: ignore[attr-defined]
    assert models["acme_net"] is models["acme_net"]
    assert (place / "loaded").exists()
    with pytest.raises(InputError, match=r"unknown model 'acme_nett'; did you mean 'acme_net'\?"):
        models["acme_nett"]
    with pytest.raises(
        InputError,
        match=r"model 'acme_gone': acme_offers:gone of acme 1\.2 does not load \(AttributeError",
    ):
        models["acme_gone"]


def test_a_name_that_is_taken_is_told(place: Path) -> None:
    install(place, "bcme", {"nervecode.models": {"acme_net": "acme_offers:rings"}})
    models = registry(mlp=1)
    assert models["mlp"] == 1
    assert models["acme_net"].__name__ == "net"  # type: ignore[attr-defined]
    assert models.hidden == {
        "mlp": "model 'mlp' is built in; the one that acme 1.2 offers by the same name is not used",
        "acme_net": "model 'acme_net' is that of acme 1.2; the one that bcme 1.2 offers by the "
        "same name is not used",
    }


def test_versions_of_packages_are_known_without_loading_them(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offered() -> None:
        (entry,) = entry_points(group="nervecode.detectors", name="acme_farness")
        monkeypatch.setitem(DETECTORS.offered, "acme_farness", entry)

    offered()
    used = packages({"model": {"name": "mlp"}, "bench": {"detectors": ["energy", "acme_farness"]}})
    digest = hashlib.sha256(MODULE.encode()).hexdigest()
    about = {"package": "acme", "version": "1.2", "sha256": digest}
    assert used == {"detector acme_farness": about}
    assert list(changes(used)) == []
    (place / "acme_offers.py").write_text(MODULE + "# another\n")
    assert list(changes(used)) == [
        "detector 'acme_farness': acme_offers of acme 1.2 has changed since the run was made"
    ]
    info = place / "acme-1.2.dist-info/METADATA"
    info.write_text(info.read_text().replace("1.2", "1.3"))
    offered()
    assert list(changes(used)) == [
        "detector 'acme_farness' is that of acme 1.3; the run was made with acme 1.2"
    ]
    monkeypatch.delitem(DETECTORS.offered, "acme_farness")
    assert list(changes(used)) == [
        "detector 'acme_farness' was that of acme 1.2 when the run was made; none offers it now"
    ]
    assert list(changes({"other thing": about})) == [
        "other 'thing' was that of acme 1.2 when the run was made; none offers it now"
    ]
    assert not (place / "loaded").exists()


@pytest.mark.slow
def test_a_network_a_set_and_a_detector_of_a_package_are_benched(tmp_path: Path) -> None:
    install(tmp_path)
    config = {
        "name": "offered", "threads": 1,
        "data": {"id": "acme_rings", "hold_out": [2], "near": ["held_out"]},
        "model": {"name": "acme_net"},
        "train": {"epochs": 2, "learning_rate": 0.02},
        "bench": {"detectors": ["acme_farness", "energy"]},
    }  # fmt: skip
    (tmp_path / "mine.yaml").write_text(json.dumps(config))
    checked = command(tmp_path, "config", "show", "--config", "mine.yaml", "-o", "model.name=mlp")
    assert checked.returncode == 0, checked.stderr
    assert "model 'mlp' is built in; the one that acme 1.2 offers" in checked.stderr
    assert not (tmp_path / "loaded").exists()
    option = ["-o", "bench.options.acme_farness.power=2.0"]
    done = command(tmp_path, "bench", "--config", "mine.yaml", "--json", *option)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)["rows"]
    assert {row["status"] for row in rows if row["method"] == "acme_farness"} == {"ok"}
    (run,) = (tmp_path / "runs").iterdir()
    kept = json.loads((run / "meta.json").read_text())["packages"]
    assert {key: about["version"] for key, about in kept.items()} == {
        "model acme_net": "1.2", "dataset acme_rings": "1.2", "detector acme_farness": "1.2",
    }  # fmt: skip
    info = tmp_path / "acme-1.2.dist-info/METADATA"
    info.write_text(info.read_text().replace("1.2", "1.3"))
    told = "model 'acme_net' is that of acme 1.3; the run was made with acme 1.2"
    for words in (["verify", run], ["score", run, "--input", "uniform_noise"], ["bench", run]):
        done = command(tmp_path, *words)
        assert (done.returncode, told in done.stderr) == (0, True), done.stderr
    again = json.loads((run / "meta.json").read_text())["packages"]
    assert again == kept
    wrong = ["-o", "bench.options.acme_farness.powr=2.0"]
    told = command(tmp_path, "config", "show", "--config", "mine.yaml", *wrong)
    assert (told.returncode, "did you mean 'power'" in told.stderr) == (2, True)


def test_arrays_of_a_package_become_a_set() -> None:
    x, y = np.random.default_rng(0).random((6, 3)), np.arange(6) % 2
    assert AS_DATASET.load() is as_dataset  # by which the registry finds it
    dataset = as_dataset("acme", (x, y, x[:2], y[:2]))
    assert dataset.test is not None
    assert torch.equal(dataset.train.inputs, torch.from_numpy(x).float())
    assert (dataset.train.inputs.dtype, dataset.train.labels.dtype) == (torch.float32, torch.int64)
    assert len(dataset.test) == 2
    assert as_dataset("acme", dataset) is dataset
    small = (x * 255).astype("uint8")
    assert as_dataset("acme", (small.reshape(6, 3, 1, 1), y)).train.inputs.dtype == torch.uint8
    for numbers in (small, small[:, None]):  # vectors and series are no pictures
        inputs = as_dataset("acme", (numbers, y)).train.inputs
        expected = torch.from_numpy(numbers).float()
        torch.testing.assert_close(inputs, expected, rtol=0, atol=0)  # of one type too


@pytest.mark.parametrize(("low", "high"), [(0, 255), (-1, 1)])
def test_pictures_of_floats_lie_in_0_to_1(low: float, high: float) -> None:
    x, y = np.full((6, 3, 4, 4), float(low)), np.arange(6) % 2
    x[3, 0, 0, 0] = high
    found = Dataset(Samples(torch.from_numpy(x).float(), torch.from_numpy(y)))
    for given in ((x, y), (x * 0, y, x, y), found):
        with pytest.raises(InputError, match=f"acme: found values from {low} to {high}, allowed"):
            as_dataset("acme", given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([1], "returned list, allowed: (x, y), or"),
        ((1, 2, 3), "returned tuple, allowed"),
        ((np.zeros((3, 2)), np.zeros(3)), "y (3,) float64, allowed: inputs (N, …) and whole"),
        ((np.zeros((3, 2)), np.zeros(2, int)), "found x (3, 2) and y (2,) int64"),
        ((np.zeros((2, 2)), np.array([0, -1])), "found class -1, allowed: from 0"),
        ((np.array([[1, np.nan]]), np.zeros(1, int)), "x holds NaN or infinity"),
        ((np.array([["a"]]), np.zeros(1, int)), "x is no array of numbers"),
        ((np.zeros((1, 2)), [0], np.zeros((1, 3)), [0]), "inputs of other shapes"),
    ],
)
def test_what_is_no_set_is_told(given: object, words: str) -> None:
    with pytest.raises(InputError) as told:
        as_dataset("acme", given)
    assert str(told.value).startswith("data: acme: ")
    assert words in str(told.value)
