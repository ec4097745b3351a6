"""Rows: one per seed, OOD set and method; and what they say over sets and seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from nervecode.files import csv_text, read_json, write_json, write_text
from nervecode.lab.results.metrics import separation
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import SCHEMA_VERSION

Row = dict[str, Any]
Gate = dict[str, Any]

GROUPS = ("near", "far", "shift")
METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95", "id_tpr95_ood_accepted")
LOWER_IS_BETTER = ("fpr95", "id_tpr95_ood_accepted")
COLUMNS = (
    "seed", "ood", "group", "method", "status", "reason", *METRICS, "n_id", "n_ood", "accuracy",
)  # fmt: skip


def gate_verdict(run: RunDir, seeds: Sequence[int]) -> Gate:
    """ID test accuracy of every seed against the gate; `passed` only if each reaches it."""
    required = run.config.bench.accuracy_gate
    accuracy = {str(seed): id_accuracy(run, seed) for seed in seeds}
    passed = all(value >= required for value in accuracy.values())
    return {"required": required, "passed": passed, "accuracy": accuracy}


def id_accuracy(run: RunDir, seed: int) -> float:
    """Fraction of ID test that the classifier gets right."""
    arrays = run.arrays(run.paths.layerwise(seed, "id_test"))
    return float((arrays["labels"] == arrays["predictions"]).mean())


def seed_rows(run: RunDir, seed: int, groups: Mapping[str, str], gate: Gate) -> list[Row]:
    """The rows of one seed; methods that failed have a reason in the place of figures."""
    failures: Mapping[str, str] = read_json(run.verified(run.paths.failures(seed)))
    inside = run.arrays(run.paths.scores(seed, "id_test"))
    rows = []
    for ood, group in groups.items():
        outside = run.arrays(run.paths.scores(seed, f"ood_{ood}"))
        for method in [*inside, *failures]:
            row: Row = dict.fromkeys(COLUMNS, "")
            row |= {"seed": seed, "ood": ood, "group": group, "method": method}
            row["accuracy"] = gate["accuracy"][str(seed)]
            if method in failures:
                row |= {"status": "failed", "reason": failures[method]}
            else:
                figures = asdict(separation(inside[method], outside[method]))
                n = {"n_id": len(inside[method]), "n_ood": len(outside[method])}
                row |= {"status": "ok", **figures, **n}
            rows.append(row)
    return rows


def run_rows(run: RunDir, groups: Mapping[str, str], gate: Gate) -> list[Row]:
    """The rows of every seed of a run; `groups` has the group of each OOD set by its name."""
    return [row for seed in run.config.seeds for row in seed_rows(run, seed, groups, gate)]


def withhold(rows: Iterable[Row], gate: Gate) -> list[Row]:
    """The rows without their figures, each with what the gate found."""
    empty = dict.fromkeys(METRICS, "")
    return [
        {**row, **empty, "status": "not_reported", "reason": gate_reason(gate, row["seed"])}
        for row in rows
    ]


def is_withheld(rows: Iterable[Row]) -> bool:
    """Whether rows are without their figures."""
    return any(row["status"] == "not_reported" for row in rows)


def gate_reason(gate: Gate, seed: int) -> str:
    """Why a seed's cells are empty."""
    accuracy, required = gate["accuracy"][str(seed)], gate["required"]
    sign = "<" if accuracy < required else ">="
    tail = "" if accuracy < required else " (another seed did not pass)"
    return f"not reported: accuracy {accuracy:.4g} {sign} {required:.4g}{tail}"


def gate_word(gate: Gate) -> str:
    """The verdict of a gate, in a word."""
    return {True: "passed", False: "failed", None: "open"}[gate["passed"]]


def summarise(rows: Iterable[Row]) -> list[Row]:
    """Per method and group: mean and deviation over seeds of the mean AUROC over the sets."""
    return [
        {"method": method, "group": group, **_summary(seeds)}
        for method, groups in group_means(rows).items()
        for group, seeds in groups.items()
    ]


def ranking(rows: Iterable[Row]) -> list[Row]:
    """Methods by the mean of near and far AUROC over seeds, best first."""
    means = [{"method": m, **_summary(seeds)} for m, seeds in headlines(rows).items()]
    return sorted(means, key=lambda row: -row["auroc_mean"])


def headlines(rows: Iterable[Row]) -> dict[str, dict[int, float]]:
    """Method -> seed -> mean of near and far AUROC; what lacks one of them is left out."""
    means = {}
    for method, groups in group_means(rows).items():
        near, far = groups.get("near", {}), groups.get("far", {})
        both = {seed: (near[seed] + far[seed]) / 2 for seed in sorted(near.keys() & far.keys())}
        if both:
            means[method] = both
    return means


def group_means(rows: Iterable[Row]) -> dict[str, dict[str, dict[int, float]]]:
    """Method -> group -> seed -> unweighted mean of AUROC over the group's sets."""
    table: dict[str, dict[str, dict[int, list[float]]]] = {}
    for row in rows:
        if row["status"] == "ok":
            seeds = table.setdefault(row["method"], {}).setdefault(row["group"], {})
            seeds.setdefault(row["seed"], []).append(row["auroc"])
    return {
        method: {g: {s: float(np.mean(v)) for s, v in seeds.items()} for g, seeds in groups.items()}
        for method, groups in table.items()
    }


def over_seeds(values: Iterable[float]) -> tuple[float, float]:
    """Mean and sample standard deviation over seeds; one seed has none, which is 0."""
    array = np.array(list(values))
    return float(array.mean()), float(array.std(ddof=1)) if len(array) > 1 else 0.0


def _summary(seeds: Mapping[int, float]) -> Row:
    mean, deviation = over_seeds(seeds.values())
    return {"auroc_mean": mean, "auroc_std": deviation, "num_seeds": len(seeds)}


def document(run: RunDir, rows: Sequence[Row], gate: Gate) -> dict[str, Any]:
    """The result of a bench as one JSON document."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_dir": str(run.root),
        "status": run.meta["status"],
        "gate": gate,
        "rows": [{k: (None if v == "" else v) for k, v in row.items()} for row in rows],
        "summary": summarise(rows),
    }


def write_rows(run: RunDir, rows: Sequence[Row], gate: Gate) -> list[Path]:
    """Write `results.csv` and `results.json`."""
    paths = [run.root / "results.csv", run.root / "results.json"]
    write_text(paths[0], csv_text(rows, COLUMNS))
    write_json(paths[1], {"gate": gate, "rows": list(rows), "summary": summarise(rows)})
    return paths


def read_rows(run: RunDir) -> dict[str, Any]:
    """What `write_rows` wrote.

    Raises:
        ArtifactError: the bench has not come so far, or the file is damaged.
    """
    path = run.root / "results.json"
    if not path.is_file():
        raise run.absent(path)
    results: dict[str, Any] = json.loads(run.verified(path).read_text(encoding="utf-8"))
    return results
