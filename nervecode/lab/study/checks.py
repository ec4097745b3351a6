"""Checks: that the record of a cell has all that its config asks for, and nothing else."""

from __future__ import annotations

from pathlib import Path

from nervecode.errors import ArtifactError, did_you_mean
from nervecode.lab.data.names import set_names
from nervecode.lab.detectors.combination import COMBINATION, COMBINED, subsets
from nervecode.lab.results.rows import GROUPS
from nervecode.lab.schema import Config, DataConfig
from nervecode.lab.study.columns import HINT
from nervecode.lab.study.oracle import ORACLE
from nervecode.lab.study.oracle import STATUS as ORACLE_STATUS
from nervecode.lab.study.records import CellRecord
from nervecode.lab.sweep.cells import Cell

OWN = ("ok", "failed")  # what may have become of a baseline


def check_record(record: CellRecord, cell: Cell, path: Path) -> None:
    """Refuse a record that is not the whole of its cell.

    Args:
        record: that has the id of the cell.
        cell: of the plan.
        path: of the file that it is from.

    Raises:
        ArtifactError: the seed, the accuracy, a method or a set is not what the config has; names
            the line or column, what was found and what is allowed.
    """
    place = f"{path}: line {min(record.lines.values())}" if record.lines else str(path)
    if record.seed != cell.seed:
        told = f"seed: found {record.seed}, allowed for cell {cell.id}: {cell.seed}"
        raise ArtifactError(f"{place}: {told}; {HINT}")
    gate = float(f"{100 * cell.config.bench.accuracy_gate:.5g}")  # to the digits of a file
    if record.accuracy > gate if record.gate else record.accuracy < gate:
        limit = "at most" if record.gate else "at least"
        told = f"accuracy: found {record.accuracy:g}, allowed here: {limit} {gate:g}, the gate"
        raise ArtifactError(f"{place}: {told}; {HINT}")
    if not record.gate:
        _check_methods(record, cell.config, path, place)
        _check_sets(record, cell.config.data, path)


def _check_methods(record: CellRecord, config: Config, path: Path, place: str) -> None:
    statuses = {row["method"]: row["status"] for row in record.rows}
    singles = [*config.signals, *config.bench.detectors]
    allowed = {m: ("ok",) if m in config.signals else OWN for m in singles}
    scored = [method for method in singles if statuses.get(method) != "failed"]
    for letters in subsets(scored):
        suffix = "" if len(letters) == len(COMBINED) else f"_{'+'.join(letters)}"
        allowed[COMBINATION + suffix] = ("ok",)
        if config.data.near or config.data.far:
            allowed[ORACLE + "+".join(letters)] = (ORACLE_STATUS,)
    for method, status in statuses.items():
        line = f"{path}: line {record.lines[method]}" if record.lines else str(path)
        if method not in allowed:
            told = f"unknown method {method!r} of cell {record.cell}"
            raise ArtifactError(f"{line}: {told}; {did_you_mean(method, allowed)}; {HINT}")
        if status not in allowed[method]:
            told = f"status: found {status!r}, allowed for {method}: {', '.join(allowed[method])}"
            raise ArtifactError(f"{line}: {told}; {HINT}")
    for method in allowed:
        if method not in statuses:
            told = f"found no row of {method} for cell {record.cell}, allowed: one"
            raise ArtifactError(f"{place}: {told}; {HINT}")


def _check_sets(record: CellRecord, data: DataConfig, path: Path) -> None:
    names = set_names(data)
    every = [f"{g} {names[spec]}" for g in GROUPS for spec in getattr(data, g)]
    columns: dict[str, list[str]] = {}
    for row in record.rows:
        columns.setdefault(row["method"], []).append(f"{row['group']} {row['ood']}")
    for method, sets in columns.items():
        known = [s for s in every if not (method.startswith(ORACLE) and s.startswith("shift "))]
        for name in sets:
            if name not in known:
                told = f"found a column 'auroc {name}' with {method}; {did_you_mean(name, known)}"
                raise ArtifactError(f"{path}: {told}; {HINT}")
        for name in known:
            if name not in sets:
                told = f"found no 'auroc {name}' of {method}, allowed: one for each cell"
                raise ArtifactError(f"{path}: {told}; {HINT}")
