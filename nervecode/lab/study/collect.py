"""Collect: the records of a setting's cells, from runs that lie here or else from committed files.

A record counts for the cell whose id it has, and so for the very config and seed of the plan; what
was recorded for another config is stale, and is named instead of used. Of a run and a record of one
cell, that counts which finished later.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from nervecode.errors import ArtifactError, GateError
from nervecode.lab.run.directory import RunDir
from nervecode.lab.study.checks import check_record
from nervecode.lab.study.measure import finished_at, measure
from nervecode.lab.study.plan import Plan, cells_of, config_of
from nervecode.lab.study.records import CellRecord, read_records, write_records
from nervecode.lab.study.setting import Setting
from nervecode.lab.sweep.cells import Cell
from nervecode.lab.sweep.state import state_of


def collect(plan: Plan, name: str, runs: Path, folder: Path, *, command: str) -> Setting:
    """A setting from its finished cells; the records of those whose runs lie here are written.

    Args:
        plan: of the study.
        name: of the setting.
        runs: the folder of the study's sweep.
        folder: of the records, one file per setting.
        command: that runs what is missing.

    Raises:
        ArtifactError: no cell is finished, or a file is damaged.
        GateError: a cell did not pass the accuracy gate, so that there are no figures.
    """
    path, config, setting = folder / f"{name}.csv", config_of(plan, name), plan.settings[name]
    kept = read_records(path)
    new, absent = {}, {}
    for cell in cells_of(plan, name):
        record = _newer(cell, kept, runs) or _kept(cell, kept)
        if record is None:
            absent[cell.seed] = _reason(cell, kept, runs)
        else:
            check_record(record, cell, path)
            new[cell.seed] = record
    records = list(new.values())
    if any(record not in kept for record in records):
        write_records(path, records)
        records = read_records(path)  # a page is the same from the runs and from the file
    for record in records:
        _check_gate(record)
    if not records:
        raise ArtifactError(f"{told(absent)}; `{command} --only {name}` runs it")
    return Setting(name, setting.role, config, records, setting.note, absent)


def recorded(name: str, folder: Path) -> set[str]:
    """The ids of the cells of a setting that need no run, since their records are there.

    Raises:
        ArtifactError: the file is damaged.
    """
    return {record.cell for record in read_records(folder / f"{name}.csv")}


def told(absent: Mapping[int, str]) -> str:
    """Why seeds are absent; those with one reason together."""
    reasons = dict.fromkeys(absent.values())
    seeds = {why: [str(seed) for seed, other in absent.items() if other == why] for why in reasons}
    return "; ".join(f"seed {', '.join(some)}: {why}" for why, some in seeds.items())


def _kept(cell: Cell, kept: Iterable[CellRecord]) -> CellRecord | None:
    return next((record for record in kept if record.cell == cell.id), None)


def _newer(cell: Cell, kept: Iterable[CellRecord], runs: Path) -> CellRecord | None:
    """The record of a run that lies here, where it finished later than what was recorded."""
    root = cell.root(runs)
    if not (root / "meta.json").exists():
        return None
    known = _kept(cell, kept)
    with suppress(ArtifactError):  # a damaged run takes nothing from what was recorded of it
        if known is not None and not _later(finished_at(RunDir(root), cell.seed), known.finished):
            return None
    done = state_of(cell, runs).word in ("done", "gate failed")
    return measure(RunDir(root), cell.id) if done else None


def _later(time: str, other: str) -> bool:
    try:
        return datetime.fromisoformat(time) > datetime.fromisoformat(other)
    except (ValueError, TypeError):  # an unknown time is not later, nor is one without a zone
        return False


def _reason(cell: Cell, kept: Iterable[CellRecord], runs: Path) -> str:
    state = state_of(cell, runs)
    stale = [record.cell for record in kept if record.seed == cell.seed]
    if state.word == "waiting" and stale:
        return f"stale (recorded for the config of cell {stale[0]}, planned is {cell.id})"
    return f"{state.word} ({state.reason})" if state.reason else state.word


def _check_gate(record: CellRecord) -> None:
    if record.gate:
        raise GateError(f"accuracy gate not passed: seed {record.seed}: {record.gate}")
