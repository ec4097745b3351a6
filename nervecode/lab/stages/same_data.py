"""Same data: what a run was trained, calibrated and scored on is noticed where it changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nervecode.errors import InputError, NervecodeError
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.splits import Splits
from nervecode.lab.machine.progress import Progress
from nervecode.lab.ranks.job import current
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.records import discard, trained_on
from nervecode.lab.run.stale import figures
from nervecode.lab.schema import PATHS, Config
from nervecode.lab.stages.columns import STAGE as COLUMNS

SETTINGS = ("data", "model", "train", "signals", "deterministic")  # of a training
AGAIN = {"train": "trained", "calibrate": "calibrated", "score": "scored"}


def refuse_other_data(run: RunDir, config: Config, splits: Splits) -> None:
    """Refuse an ID set that gives other rows, or another order, than a seed was trained on.

    Otherwise the split would be another, and calibrate on rows that were trained on. A config that
    asks for other data than the run was trained on is trained anew, and not refused.

    Args:
        run: that has been made, and may have been trained.
        config: what it is to go on with.
        splits: the data of `config`, as they are now.

    Raises:
        InputError: ID train, or what is fitted to its columns, is not what the seed was trained on.
    """
    if "datasets" not in run.meta:
        return  # its trainings are adopted: one of other rows is not skipped, but done again
    stages = run.meta["stages"]
    settings, now = config.training_inputs()["data"], splits.train.fingerprint
    columns = None if splits.encoder is None else json.loads(json.dumps(splits.encoder.to_json()))
    same_columns = COLUMNS not in stages or stages[COLUMNS]["inputs"] == columns
    for seed, inputs in _trainings(run).items():
        if inputs.get("data") != settings or "id_train" not in inputs:
            continue
        if inputs["id_train"] != now or not same_columns:
            raise InputError(
                f"{run.root}: seed {seed} was trained on other rows than data.id, "
                f"{config.data.id}, gives now; {_way_back(config.data.id)}, or begin a new run"
            )


def refuse_unlike_ranks(splits: Splits) -> None:
    """Refuse to work together on other rows than the first of several processes has.

    Raises:
        NervecodeError: a set gave one process other rows, or another order, than the first.
    """
    parts = _parts(splits)
    here = torch.tensor([int(part.fingerprint[:15], 16) for part in parts.values()])
    rows = current().rows(here)  # (world, parts): all ranks see the same, and end alike
    for rank in (rows != rows[0]).any(1).nonzero().flatten().tolist()[:1]:
        unlike = [name for name, same in zip(parts, rows[rank] == rows[0], strict=True) if not same]
        raise NervecodeError(
            f"data: rank {rank} was given other rows of {', '.join(unlike)} than rank 0, "
            "allowed: sets that give the same rows each time"
        )


def refuse_other_training(run: RunDir, seed: int) -> None:
    """Refuse to go on with a training of other settings than those of the run's config.

    Raises:
        InputError: the config was replaced, and the seed is not trained again yet.
    """
    if not _is_asked_for(_trainings(run)[str(seed)], run.config):
        raise InputError(
            f"{run.root}: seed {seed} was trained with other settings than its config has now; "
            f"`{run.command('train')}` trains it again"
        )


def note_data(run: RunDir, splits: Splits, stages: Sequence[str], *, progress: Progress) -> None:
    """Enter the data that stages are about to read, and drop what was made from other data.

    So the calibrations, scores and figures of a run always belong to the `datasets` of its
    metadata. Splits that the stages do not read stay as they were entered.

    Args:
        run: claimed by the caller.
        splits: the data of its config, as they are now.
        stages: that are about to be done, or skipped.
        progress: told which splits changed.
    """
    parts = _parts(splits)
    before, read = run.meta.get("datasets", {}), _read_by(run, stages, list(parts))
    changed = [
        n for n, part in parts.items() if before.get(n, part.fingerprint) != part.fingerprint
    ]
    again = [name for name in changed if name in read]
    ends = ("calibrate/", "score/") if {"id_train", "id_calibration"} & {*again} else ("score/",)
    lost = [key for key in run.meta["stages"] if key.startswith(ends)] if again else []
    if again:
        progress.tell(f"{', '.join(again)} changed since the last time: {AGAIN[stages[-1]]} again")
    left = [name for name in changed if name not in read]
    if left and not lost and any(key.startswith("score/") for key in run.meta["stages"]):
        progress.tell(
            f"{', '.join(left)} changed since the last scores; `{run.command('bench')}` "
            "scores again"
        )
    facts = _facts(run, splits, {name: parts[name] for name in read})
    same = all(run.meta.get(key) == value for key, value in facts.items())
    discard(run, [*lost, *([] if same else figures(run.meta))], **facts)


def _parts(splits: Splits) -> dict[str, Samples]:
    return {"id_train": splits.train, **splits.evaluated()}


def _read_by(run: RunDir, stages: Sequence[str], names: Sequence[str]) -> Sequence[str]:
    """Those splits that stages read; a training that is there is skipped, and reads none."""
    if "score" in stages:
        return names
    if "calibrate" in stages:
        return ("id_train", "id_calibration")
    return () if any(_is_asked_for(i, run.config) for i in _trainings(run).values()) else names[:1]


def _facts(run: RunDir, splits: Splits, read: Mapping[str, Samples]) -> dict[str, Any]:
    """What the metadata are to say of data that are read."""
    datasets = {name: samples.fingerprint for name, samples in read.items()}
    sizes = {name: len(samples) for name, samples in read.items()}
    if "id_test" not in read:  # else all are, and what the config no longer asks for is left out
        datasets = {**run.meta.get("datasets", {}), **datasets}
        sizes = {**run.meta.get("split_sizes", {}), **sizes}
    facts: dict[str, Any] = {"datasets": datasets, "split_sizes": sizes}
    if read:
        facts |= {
            "num_classes": splits.num_classes,
            "classes": list(splits.classes),
            "input_shape": list(splits.shape),
        }
    if "id_test" in read:
        groups = {ood.name: ood.group for ood in splits.ood}
        facts |= {"ood_groups": groups, "data_remarks": list(splits.remarks)}
    return facts


def _way_back(spec: str) -> str:
    if spec.partition(":")[0] in PATHS:
        return "put the file back as it was"
    return "put back what it reads, if it gives the same rows each time"


def _trainings(run: RunDir) -> dict[str, Mapping[str, Any]]:
    """Seed -> what its training depended on."""
    return {
        key.removeprefix("train/seed_"): trained_on(run.meta, key)
        for key in run.meta["stages"]
        if key.startswith("train/")
    }


def _is_asked_for(inputs: Mapping[str, Any], config: Config) -> bool:
    """Whether a training has the settings of a config."""
    wanted = json.loads(json.dumps(config.training_inputs()))
    return all(inputs.get(key) == wanted.get(key) for key in SETTINGS)
