"""Reproduce: the evaluation of a run once more, from its checkpoints, in another directory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from nervecode.files import write_json
from nervecode.lab.config.packages import recalling
from nervecode.lab.machine.progress import Progress
from nervecode.lab.results.rows import (
    Row,
    gate_verdict,
    is_withheld,
    read_rows,
    run_rows,
    withhold,
)
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import sealed
from nervecode.lab.run.paths import CACHE
from nervecode.lab.run.verify import differences
from nervecode.lab.stages.bench import Prepared, prepare, run_stages


def reproduce(
    run: RunDir, *, device: str | None, tolerance: float, progress: Progress
) -> tuple[list[str], float]:
    """Fit, calibrate and score again from the checkpoints, and compare the rows.

    Args:
        run: a benched run; nothing is written to it.
        device: None takes the config's.
        tolerance: how far two figures may lie apart.
        progress: told what is done.

    Returns:
        A line for each row that differs, and the largest difference of figures.

    Raises:
        ArtifactError: the bench has not come so far, or a file is missing or damaged.
    """
    saved = read_rows(run)["rows"]
    config = run.config.model_copy(update={"device": device} if device else {})
    with recalling(run.meta.get("packages", {})):
        prepared = prepare(config, run)
    with tempfile.TemporaryDirectory(prefix="nervecode-") as folder:
        copy = _copy(run, Path(folder))
        again = _evaluate(copy, prepared, progress)
    if is_withheld(saved):
        again = withhold(again, run.meta["gate"])
    return differences(saved, again, tolerance=tolerance)


def _copy(run: RunDir, folder: Path) -> RunDir:
    """What training left: config and checkpoints, and their record."""
    stages = {key: s for key, s in run.meta["stages"].items() if key.startswith("train/")}
    for name in ["config.yaml", *(n for s in stages.values() for n in s["outputs"])]:
        if not name.startswith(CACHE):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(run.verified(run.root / name), folder / name)
    files = {"config.yaml": run.meta["files"]["config.yaml"]}
    write_json(folder / "meta.json", sealed({**run.meta, "stages": stages, "files": files}))
    return RunDir(folder)


def _evaluate(run: RunDir, prepared: Prepared, progress: Progress) -> list[Row]:
    run_stages(run, prepared, ("calibrate", "score"), progress=progress)
    gate = gate_verdict(run, run.config.seeds)
    groups = {ood.name: ood.group for ood in prepared.splits.ood}
    return run_rows(run, groups, gate)
