"""Measure: what the page needs of a finished run, which lies in no repository, as a record."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nervecode.lab.results.metrics import calibration_error
from nervecode.lab.results.rows import gate_reason, read_rows
from nervecode.lab.results.statistics import paired_error, placements
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.columns import PARTS
from nervecode.lab.study.oracle import oracle_rows
from nervecode.lab.study.records import CellRecord

Placements = Mapping[str, tuple[np.ndarray, np.ndarray]]
Scores = Mapping[str, np.ndarray]


def finished_at(run: RunDir, seed: int) -> str:
    """When the scores of a run were done; empty where they are not."""
    return str(run.meta["stages"].get(f"score/seed_{seed}", {}).get("finished", ""))


def measure(run: RunDir, cell: str) -> CellRecord:
    """The record of the one seed of a finished run.

    Args:
        run: whose files have been verified.
        cell: its id.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    (seed,) = run.config.seeds
    results, inside = read_rows(run), run.arrays(run.paths.scores(seed, "id_test"))
    rows, gate = results["rows"], results["gate"]
    groups = {row["ood"]: row["group"] for row in rows}
    passed = bool(gate["passed"])
    outside = {s: run.arrays(run.paths.scores(seed, f"ood_{s}")) for s in groups if passed}
    made_with = run.meta["stages"][f"score/seed_{seed}"].get("made_with", run.meta)
    oracles = oracle_rows(inside, outside, groups, seed) if passed else []
    return CellRecord(
        seed, cell, str(made_with["versions"]["nervecode"]), _short(made_with["git_commit"]),
        finished_at(run, seed), 100 * float(gate["accuracy"][str(seed)]),
        _ece(run, seed, inside), {part: run.meta["split_sizes"][part] for part in PARTS},
        [*rows, *oracles] if passed else [],
        lead_errors(inside, outside, groups) if passed else {},
        "" if passed else gate_reason(gate, seed),
    )  # fmt: skip


def lead_errors(
    inside: Scores, outside: Mapping[str, Scores], groups: Mapping[str, str]
) -> dict[str, dict[str, float]]:
    """Method -> score or near -> standard error, in points, of how far `nervecode` is ahead.

    A score is the mean of near and far, or far alone. Every set of a group counts the same.
    """
    counted = [g for g in ("near", "far") if g in groups.values()]
    shares = {name: _shares(groups, name) for name in counted}
    both = {s: share / len(counted) for name in counted for s, share in shares[name].items()}
    weights = {"score": both, **({"near": shares["near"]} if "near" in shares else {})}
    placed = {m: {s: placements(inside[m], outside[s][m]) for s in both} for m in inside}
    return {
        method: {n: 100 * paired_error(placed[PRIMARY], places, w) for n, w in weights.items()}
        for method, places in placed.items()
        if method != PRIMARY
    }


def _shares(groups: Mapping[str, str], group: str) -> dict[str, float]:
    members = [ood for ood, name in groups.items() if name == group]
    return dict.fromkeys(members, 1 / len(members))


def _ece(run: RunDir, seed: int, inside: Scores) -> float | None:
    """In percent, where the largest softmax probability was scored."""
    if "msp" not in inside:
        return None
    arrays = run.arrays(run.paths.layerwise(seed, "id_test"))
    return 100 * calibration_error(-inside["msp"], arrays["labels"] == arrays["predictions"])


def _short(commit: str | None) -> str:
    """A commit in ten digits, and whether files had changed since."""
    digits, _, dirty = (commit or "").partition("-")
    return digits[:10] + ("-dirty" if dirty else "")
