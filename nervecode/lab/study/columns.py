"""Columns: what a file of records has in its header and on a line, whatever the config."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

from nervecode.errors import ArtifactError
from nervecode.lab.results.rows import GROUPS
from nervecode.lab.study.oracle import STATUS as ORACLE_STATUS

MEASURES = ("auroc", "aupr_out", "fpr95")
PARTS = ("id_train", "id_calibration", "id_test")
ERRORS = ("score", "near")  # of what `nervecode` is ahead in
CELL = ("seed", "cell", "version", "commit", "finished", "accuracy", "ece", *PARTS)
ERROR_COLUMNS = tuple(f"error_{name}" for name in ERRORS)
COLUMNS = (*CELL, "method", "status", "reason", *ERROR_COLUMNS)
ROUNDING = 0.01  # points
GATE = "gate_failed"
STATUSES = ("ok", "failed", ORACLE_STATUS)
HINT = "put the committed file back, or remove it and run the setting again"

Line = dict[str, str]


def check_header(path: Path, header: Sequence[str]) -> None:
    """Refuse a header that lacks a column, has one twice, or has one that means nothing.

    Raises:
        ArtifactError: names the column.
    """
    sets = dict.fromkeys(c.partition(" ")[2] for c in header if c not in COLUMNS)
    known = [*COLUMNS, *(f"{measure} {rest}" for rest in sets for measure in MEASURES)]
    for column in dict.fromkeys([*known, *header]):
        count = header.count(column)
        if column in known and count != 1:
            raise ArtifactError(f"{path}: found {count} columns {column!r}, allowed: 1; {HINT}")
        group, _, ood = column.partition(" ")[2].partition(" ")
        if column not in known or (column not in COLUMNS and (group not in GROUPS or not ood)):
            allowed = f"{' or '.join(MEASURES)}, {' or '.join(GROUPS)}, and a set"
            raise ArtifactError(f"{path}: found a column {column!r}, allowed: {allowed}; {HINT}")


def check_line(where: str, line: Line) -> None:
    """Refuse a line whose status, reason and figures contradict each other.

    Raises:
        ArtifactError: names the line and the column.
    """
    status, reason = line["status"], line["reason"]
    if status not in (*STATUSES, GATE):
        told = f"status: found {status!r}, allowed: {', '.join((*STATUSES, GATE))}"
        raise ArtifactError(f"{where}: {told}; {HINT}")
    failed = status in ("failed", GATE)
    if failed != bool(reason.strip()):
        allowed = "a reason" if failed else "nothing"
        told = f"reason: found {reason!r}, allowed with status {status}: {allowed}"
        raise ArtifactError(f"{where}: {told}; {HINT}")
    figures = [column for column in line if column not in COLUMNS or column in ERROR_COLUMNS]
    for column in figures if failed else ():
        if line[column]:
            told = f"{column}: found {line[column]!r}, allowed with status {status}: nothing"
            raise ArtifactError(f"{where}: {told}; {HINT}")


def check_figures(where: str, ood: str, figures: Mapping[str, float]) -> None:
    """Refuse measures of one set, x100, that no ROC curve has, such as those in [0, 1].

    To the right of FPR95 a curve is not below 95 %, which alone gives an area.

    Raises:
        ArtifactError: names the line and the column.
    """
    least = 0.95 * (100 - figures.get("fpr95", 100.0)) - ROUNDING
    if figures and figures["auroc"] < least:
        told = f"auroc {ood}: found {figures['auroc']:g}, allowed with its fpr95: from {least:.2f}"
        raise ArtifactError(f"{where}: {told}; {HINT}")


def check_time(where: str, line: Line) -> None:
    """Refuse a cell that was finished at no known time, of which none is later or earlier.

    Raises:
        ArtifactError: names the line.
    """
    text = line["finished"]
    try:
        known = datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        known = False
    if not known:
        allowed = "a time such as 2026-01-31T12:00:00+00:00"
        raise ArtifactError(f"{where}: finished: found {text!r}, allowed: {allowed}; {HINT}")
