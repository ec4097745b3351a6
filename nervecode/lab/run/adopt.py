"""Adopt: begin a run with the trainings of other runs, where the same was asked for."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from nervecode.errors import NervecodeError
from nervecode.files import read_json, replacing, sha256, write_json
from nervecode.lab.run.directory import RunDir, list_runs
from nervecode.lab.run.meta import Meta, now
from nervecode.lab.run.paths import MANIFEST, stage_key
from nervecode.lab.run.records import trained_on
from nervecode.lab.schema import Config

MADE_WITH = ("versions", "git_commit", "hardware", "device", "determinism")


def adopt(
    config: Config,
    outdir: Path,
    folders: Iterable[Path],
    *,
    command: str,
    name: str | None = None,
) -> RunDir | None:
    """A new run in `outdir` with the newest equal trainings in `folders`; None if one is missing.

    Each seed may come from another run, as from the cells of a sweep. What follows the training is
    done anew; should the stage `train` see a difference all the same, it trains again. `name` is as
    in `RunDir.create`.

    Raises:
        ArtifactError: a file of such a training is missing or damaged.
    """
    sources = _sources(config, folders)
    if sources is None:
        return None
    run = RunDir.create(config, outdir, command=command, name=name)
    with run.claimed():
        take_trainings(run, sources)
    return run


def take_trainings(run: RunDir, sources: Mapping[int, RunDir]) -> None:
    """Copy the training of each seed from a run into another, which the caller has claimed.

    Raises:
        ArtifactError: a file of such a training is missing or damaged.
    """
    stages, manifest, imported = {}, {}, {}
    for seed, source in sources.items():
        stage = stages[stage_key("train", seed)] = _adopted(source.meta, seed)
        for name in stage["outputs"]:
            with replacing(run.root / name) as temporary:
                shutil.copyfile(source.verified(source.root / name), temporary)
        checkpoint = run.paths.checkpoint(seed).name
        manifest[checkpoint] = read_json(source.verified(source.root / MANIFEST))[checkpoint]
        if where := source.meta.get("imported", {}).get(str(seed)):
            imported[str(seed)] = where
        run.log("adopt", source=source.home.name, seed=seed)
    write_json(run.root / MANIFEST, manifest)
    written = {MANIFEST: sha256(run.root / MANIFEST)}
    told = {"imported": imported} if imported else {}
    run.update(stages=stages, files=run.meta["files"] | written, **told)


def _adopted(source: Meta, seed: int) -> Meta:
    """The record of a training as another run takes it: what it was made with, and whence it came.

    What a record does not say, as older releases left it, is that of its run.
    """
    record: Meta = source["stages"][stage_key("train", seed)]
    of_run = {key: source[key] for key in MADE_WITH if key in source}
    hop = {"run_id": source["run_id"], "created": source["created"], "adopted": now()}
    return {
        **record,
        "inputs": trained_on(source, stage_key("train", seed)),
        "made_with": record.get("made_with", of_run),
        "adopted_from": [hop, *record.get("adopted_from", [])],
    }


def _sources(config: Config, folders: Iterable[Path]) -> dict[int, RunDir] | None:
    """Seed -> the newest run that holds its training; None where a seed has none."""
    runs = [run for folder in folders if folder.is_dir() for run in list_runs(folder)]
    runs = sorted(filter(lambda run: _is_alike(run, config), runs), key=_created)
    trained = {
        seed: run
        for run in runs
        for seed in config.seeds
        if stage_key("train", seed) in run.meta["stages"]
    }
    return {s: trained[s] for s in config.seeds} if len(trained) == len(config.seeds) else None


def _is_alike(run: RunDir, config: Config) -> bool:
    try:
        return run.config.training_inputs() == config.training_inputs()
    except NervecodeError:
        return False


def _created(run: RunDir) -> str:
    return str(run.meta["created"])
