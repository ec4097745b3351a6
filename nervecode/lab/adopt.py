"""Adopt: begin a run with the trainings of another run, where the same was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from nervecode.errors import NervecodeError
from nervecode.lab.files import replacing
from nervecode.lab.run import MANIFEST, RunDir, list_runs
from nervecode.lab.schema import Config

OOD = ("near", "far", "shift")  # no training depends on them


def adopt(config: Config, outdir: Path, folders: Iterable[Path], *, command: str) -> RunDir | None:
    """A new run in `outdir` with the newest equal training below `folders`; None if none is there.

    What follows the training is done anew. Should the stage `train` see a difference all the same,
    it trains again.

    Raises:
        ArtifactError: a file of that training is missing or damaged.
    """
    runs = [run for folder in folders if folder.is_dir() for run in list_runs(folder)]
    found = [run for run in runs if _has_training(run, config)]
    if not found:
        return None
    source = max(found, key=lambda run: str(run.meta["created"]))
    run = RunDir.create(config, outdir, command=command)
    stages = {key: source.meta["stages"][key] for key in _stages(config)}
    with run.claimed():
        for name in (MANIFEST, *(name for stage in stages.values() for name in stage["outputs"])):
            with replacing(run.root / name) as temporary:
                shutil.copyfile(source.verified(source.root / name), temporary)
        run.log("adopt", source=source.root.name)
        manifest = {MANIFEST: source.meta["files"][MANIFEST]}
        run.update(stages=stages, files=run.meta["files"] | manifest)
    return run


def _has_training(run: RunDir, config: Config) -> bool:
    try:
        same = _training(run.config) == _training(config)
    except NervecodeError:
        return False
    return same and all(key in run.meta["stages"] for key in _stages(config))


def _stages(config: Config) -> list[str]:
    return [f"train/seed_{seed}" for seed in config.seeds]


def _training(config: Config) -> dict[str, Any]:
    """What a training depends on; codes that are fitted after it do not count."""
    found = config.model_dump(include={"data", "model", "train", "deterministic"})
    data = {key: value for key, value in found["data"].items() if key not in OOD}
    learned = {name: one for name, one in config.signals.items() if one.recipe == "v0_1_1"}
    return found | {"data": data, "signals": learned}
