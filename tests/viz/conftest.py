"""A small run directory, written by hand in the formats of DESIGN: no stage, no torch."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from nervecode.files import sha256
from nervecode.lab.results.rows import seed_rows, write_rows
from nervecode.lab.run.directory import RunDir

GROUPS = {"held_out": "near", "photos": "far", "rotate_90": "shift"}
METHODS = ("nervecode", "energy", "knn")


def write_run(root: Path, *, layers: int = 3, groups: dict[str, str] = GROUPS, n: int = 80) -> Path:
    """A finished run of two seeds with random scores; OOD lies above ID."""
    random = np.random.default_rng(0)
    sets = {"id_calibration": 0.0, "id_test": 0.0, **{f"ood_{name}": 2.0 for name in groups}}
    for seed in (0, 1):
        for split, shift in sets.items():
            surprise = random.normal(shift, 1, (n, layers)).astype(np.float32)
            names = np.array([f"blocks.{layer}" for layer in range(layers)])
            _npz(root / f"layerwise/seed_{seed}/{split}.npz", layer_names=names, surprise=surprise)
            scores = {m: random.normal(shift, 1, n).astype(np.float32) for m in METHODS}
            _npz(root / f"scores/seed_{seed}/{split}.npz", **scores)
            if split == "id_calibration":
                path = root / f"calibration/seed_{seed}.safetensors"
                _calibration(path, names, surprise, scores["nervecode"])
        _metrics(root / f"metrics/seed_{seed}.csv")
        _diagnostics(root / f"diagnostics/seed_{seed}.csv", layers)
    meta = {
        "schema_version": 1,
        "run_id": root.name,
        "name": "made_up",
        "status": "complete",
        "demo": False,
        "seeds": [0, 1],
        "primary_method": "nervecode",
        "unit": "bits",
        "ood_groups": groups,
        "split_sizes": {"id_train": 200, "id_test": n},
        "gate": {"required": 0.9, "passed": True, "accuracy": {"0": 0.95, "1": 0.96}},
        "stages": {"score": {"inputs": None, "outputs": _hashes(root)}},
        "files": {},
    }
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def _hashes(root: Path) -> dict[str, str]:
    return {p.relative_to(root).as_posix(): sha256(p) for p in root.rglob("*.*") if p.is_file()}


def _npz(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def _calibration(path: Path, names: np.ndarray, surprise: np.ndarray, scores: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    below = "signals.nervecode."
    columns = [np.stack([column, column], axis=1) for column in surprise.T]
    readings = {f"{below}calibration.{n}": pair for n, pair in zip(names, columns, strict=True)}
    header = {"signals": {"nervecode": {"layers": names.tolist()}}}
    save_file(
        {**readings, f"{below}ranked_scores": scores},
        path,
        metadata={"nervecode": json.dumps({"header": header})},
    )


def _metrics(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ("epoch", "loss", "task_loss", "coding_loss", "accuracy", "lr", "samples_per_second")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for epoch in range(1, 5):
            writer.writerow([epoch, 1 / epoch, 1 / epoch, 0.1, 1 - 0.2 / epoch, 0.1, 1000.0])


def _diagnostics(path: Path, layers: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("epoch", "layer", "utilisation", "entropy", "code_length", "distance"))
        for epoch in range(1, 5):
            for layer in range(layers):
                writer.writerow([epoch, f"learned:blocks.{layer}", 1 / epoch, 2 / epoch, 0.1, 3.0])


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The run, and what becomes of it when it is finished; both to be copied."""
    folder = tmp_path_factory.mktemp("made")
    run = write_run(folder / "made_up-1")
    return run, finish_run(write_run(folder / "finished" / "made_up-1"))


@pytest.fixture
def run(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[0], tmp_path / "made_up-1"))


def rehash(root: Path) -> None:
    """Enter the hashes of files that a test has changed, as the stage that wrote them would."""
    meta = json.loads((root / "meta.json").read_text())
    meta.pop("sha256", None)
    for stage in meta["stages"].values():
        stage["outputs"] = {name: sha256(root / name) for name in stage["outputs"]}
    (root / "meta.json").write_text(json.dumps(meta))


def finish_run(root: Path, **meta: Any) -> Path:
    """Give a made-up run what follows the scores: rows, a config, pictures and hashes of it all."""
    shown = np.random.default_rng(1).integers(0, 255, (2, 1, 8, 8)).astype(np.uint8)
    for path in root.glob("layerwise/*/*.npz"):
        arrays = dict(np.load(path)) | {"shown": np.array([3, 1]), "shown_inputs": shown}
        count = len(arrays["surprise"])
        arrays |= {"labels": np.zeros(count, int), "predictions": np.ones(count, int)}
        _npz(path, **arrays)
    for seed in (0, 1):
        (root / f"scores/seed_{seed}/failures.json").write_text('{"vim": "too <few> inputs"}')
    config = {"name": "x", "data": {"id": "digits"}, "model": {"name": "mlp"}}
    (root / "config.yaml").write_text(json.dumps({**config, "description": "made <up>"}))
    old = json.loads((root / "meta.json").read_text())
    outputs = _hashes(root)
    outputs.pop("meta.json")
    stages = {"score": {"inputs": None, "outputs": outputs}}
    (root / "meta.json").write_text(json.dumps(old | META | {"stages": stages} | meta))
    run = RunDir(root)
    gate, groups = run.meta["gate"], run.meta["ood_groups"]
    rows = [row for seed in (0, 1) for row in seed_rows(run, seed, groups, gate)]
    run.stage("tables", None, None, lambda: write_rows(run, rows, gate))
    pictures = [root / f"plots/{kind}_seed_0.png" for kind in ("scores", "matrix")]
    pictures[0].parent.mkdir()
    for picture in pictures:
        Image.new("L", (900, 600), 200).save(picture)
    run.stage("plots", None, None, lambda: pictures)
    return root


META = {
    "created": "2026-01-02T03:04:05+00:00",
    "command": "nervecode bench --config <mine>.yaml",
    "fitted_on": {"classifier": "id_train"},
    "versions": {"nervecode": "0.0", "python": "3.12"},
    "hardware": {"system": "none", "cores": 2},
    "device": {"type": "cpu", "threads": 1},
    "git_commit": "0123456-dirty",
    "datasets": {"id_test": 64 * "0"},
}


@pytest.fixture
def finished(made: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(made[1], tmp_path / "made_up-1"))
