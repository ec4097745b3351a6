"""Stale: which records of a run no longer follow from the files that are there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nervecode.lab.run.paths import DERIVED

# A stage of a seed, its input that is the SHA-256 of a file, and the stage that writes that file.
FOLLOWS = (("calibrate", "checkpoint", "train"), ("score", "calibration", "calibrate"))


def figures(meta: Mapping[str, Any]) -> list[str]:
    """The stages of a run that show what the others made: tables, pictures and the page."""
    return [key for key in meta["stages"] if key == "tables"] + list(meta["derived"])


def shown_in(meta: Mapping[str, Any], key: str) -> list[str]:
    """The stages whose files show something else as soon as the stage `key` is done again."""
    return [] if key in DERIVED else [shown for shown in figures(meta) if shown != key]


def stale(meta: Mapping[str, Any]) -> list[str]:
    """The stages that were made from what is gone, or what another stage has since replaced."""
    stages: Mapping[str, Any] = meta["stages"]
    lost: list[str] = []
    for name, given, writer in FOLLOWS:
        for key, record in stages.items():
            stage, _, seed = key.partition("/")
            digest = _input(record, given) if stage == name else None
            source = f"{writer}/{seed}"
            written = stages.get(source, {"outputs": {}})["outputs"].values()
            if digest is not None and (source in lost or digest not in written):
                lost.append(key)
    scores = {key: record["outputs"] for key, record in stages.items() if key.startswith("score/")}
    shown = _input(stages.get("tables", {"inputs": None}), "scores")
    if shown is not None and (shown != scores or not scores.keys().isdisjoint(lost)):
        lost += figures(meta)
    return lost


def stale_files(meta: Mapping[str, Any]) -> set[str]:
    """The paths of what `stale` stages wrote."""
    records = {**meta["stages"], **meta["derived"]}
    return {name for key in stale(meta) for name in records[key]["outputs"]}


def _input(record: Mapping[str, Any], name: str) -> Any:
    """An input of a stage; None where it has none of that name."""
    inputs = record["inputs"]
    return inputs.get(name) if isinstance(inputs, dict) else None
