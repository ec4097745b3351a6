"""Run directories with rows alone, written by hand: no stage, no torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nervecode.lab.results.rows import METRICS, write_rows
from nervecode.lab.run.directory import RunDir


def row(seed: int, ood: str, group: str, method: str, auroc: float) -> dict[str, Any]:
    """A row whose other metrics say nothing."""
    return {
        "seed": seed,
        "ood": ood,
        "group": group,
        "method": method,
        "status": "ok",
        "reason": "",
        **dict.fromkeys(METRICS, 0.5),
        "auroc": auroc,
        "n_id": 10,
        "n_ood": 20,
        "accuracy": 0.9,
    }


def make_run(
    root: Path,
    aurocs: Mapping[str, Sequence[float]],
    *,
    config: Mapping[str, Any] | None = None,
    **meta: Any,
) -> Path:
    """A run whose methods have one AUROC per seed, on one near and one far set alike."""
    root.mkdir(parents=True)
    gate = {"required": 0.5, "passed": True, "accuracy": {"0": 0.9, "1": 0.95}}
    found = {"schema_version": 1, "run_id": root.name, "name": root.name, "status": "complete",
             "created": root.name, "demo": False, "seeds": [0, 1],
             "primary_method": "nervecode", "gate": gate, "stages": {}, "files": {}}  # fmt: skip
    (root / "meta.json").write_text(json.dumps(found | meta))
    own = {"name": root.name, "data": {"id": "digits"}, "model": {"name": "mlp"}}
    (root / "config.yaml").write_text(json.dumps(own | dict(config or {})))
    rows = [
        row(seed, ood, group, method, auroc)
        for method, values in aurocs.items()
        for seed, auroc in enumerate(values)
        for ood, group in (("a", "near"), ("b", "far"))
    ]
    if rows:
        run = RunDir(root)
        run.stage("tables", None, None, lambda: write_rows(run, rows, run.meta["gate"]))
    return root
