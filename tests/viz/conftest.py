"""A small run directory, written by hand in the formats of DESIGN: no stage, no torch."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

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
        _metrics(root / f"metrics/seed_{seed}.csv")
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
        "stages": {},
        "files": {},
    }
    (root / "meta.json").write_text(json.dumps(meta))
    return root


def _npz(path: Path, **arrays: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)


def _metrics(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = ("epoch", "loss", "task_loss", "coding_loss", "accuracy", "lr", "samples_per_second")
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for epoch in range(1, 5):
            writer.writerow([epoch, 1 / epoch, 1 / epoch, 0.1, 1 - 0.2 / epoch, 0.1, 1000.0])


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "made_up-1")
