"""Records: what finished cells leave for the page, as a CSV file a setting that is committed.

A line has the figures of one seed and one method on all OOD sets; what belongs to the whole cell
stands on its first line, seed and id on each. Of a cell that did not pass the accuracy gate there
is one line, with the reason. Measures, accuracy and errors are x100.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nervecode.errors import ArtifactError
from nervecode.files import csv_text, write_text
from nervecode.lab.results.rows import Row
from nervecode.lab.schema import PRIMARY
from nervecode.lab.study.columns import (
    CELL,
    COLUMNS,
    ERRORS,
    GATE,
    HINT,
    MEASURES,
    PARTS,
    Line,
    check_figures,
    check_header,
    check_line,
    check_time,
)
from nervecode.lab.study.oracle import STATUS as ORACLE_STATUS


@dataclass(frozen=True)
class CellRecord:
    """One finished cell.

    Attributes:
        seed: of the cell.
        cell: its id, the hash of config and seed.
        version: of Nervecode when its scores were made.
        commit: likewise, `-dirty` where the package differed from it; empty outside a checkout.
        finished: when its scores were, in UTC.
        accuracy: of the classifier on ID test, in percent.
        ece: its expected calibration error there, in percent; None where it was not measured.
        sizes: part -> how many inputs it has.
        rows: as in `results.csv`, with AUROC in [0, 1]; none where the gate was not passed.
        errors: method -> score or near -> standard error over inputs, in points, of how far
            `nervecode` is ahead of it.
        gate: why there are no figures; empty where the gate was passed.
        lines: method -> its line in the file that the record was read from.
    """

    seed: int
    cell: str
    version: str
    commit: str
    finished: str
    accuracy: float
    ece: float | None
    sizes: Mapping[str, int]
    rows: Sequence[Row] = field(default=(), repr=False)
    errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict, repr=False)
    gate: str = ""
    lines: Mapping[str, int] = field(default_factory=dict, compare=False, repr=False)


def write_records(path: Path, records: Sequence[CellRecord]) -> None:
    """Write the file of a setting, whole or not at all."""
    lines = [line for record in records for line in _lines(record)]
    sets = list(dict.fromkeys(column for line in lines for column in line if column not in COLUMNS))
    write_text(path, csv_text(lines, [*COLUMNS, *sets]))


def _lines(record: CellRecord) -> Iterator[Line]:
    cell = {
        "seed": str(record.seed), "cell": record.cell, "version": record.version,
        "commit": record.commit, "finished": record.finished, "accuracy": f"{record.accuracy:.5g}",
        "ece": "" if record.ece is None else f"{record.ece:.4g}",
        **{part: str(record.sizes[part]) for part in PARTS},
    }  # fmt: skip
    if record.gate:
        yield cell | {"status": GATE, "reason": record.gate}
    by_method: dict[str, list[Row]] = {}
    for row in record.rows:
        by_method.setdefault(row["method"], []).append(row)
    for method, rows in by_method.items():
        line = cell | {"method": method, "status": rows[0]["status"]}
        line["reason"] = " ".join(rows[0]["reason"].split())
        errors = record.errors.get(method, {})
        line |= {f"error_{name}": f"{error:.3g}" for name, error in errors.items()}
        for row in rows:
            for measure in MEASURES:
                value = row.get(measure, "")
                column = f"{measure} {row['group']} {row['ood']}"
                line[column] = "" if value == "" else f"{100 * value:.5g}"
        yield line
        cell = {"seed": cell["seed"], "cell": cell["cell"]}


def read_records(path: Path) -> list[CellRecord]:
    """What `write_records` wrote, one a cell; none where there is no file.

    Raises:
        ArtifactError: a line is damaged, or there twice; it is named.
    """
    cells: dict[str, dict[int, Line]] = {}
    for number, line in enumerate(_read(path) if path.exists() else [], 2):
        check_line(f"{path}: line {number}", line)
        cells.setdefault(line["cell"], {})[number] = line
    return [_record(path, lines) for lines in cells.values()]


def _read(path: Path) -> list[Line]:
    try:
        text = path.read_text(encoding="utf-8-sig").rstrip("\r\n")  # what editors add
        header, *lines = csv.reader(io.StringIO(text), strict=True)
    except (OSError, ValueError, csv.Error) as error:
        raise ArtifactError(f"{path}: is damaged ({error}); {HINT}") from None
    check_header(path, header)
    for number, values in enumerate(lines, 2):
        if len(values) != len(header):
            told = f"found {len(values)} values, allowed: {len(header)}"
            raise ArtifactError(f"{path}: line {number}: {told}; {HINT}")
    return [dict(zip(header, values, strict=True)) for values in lines]


def _record(path: Path, numbered: Mapping[int, Line]) -> CellRecord:
    lines = [(f"{path}: line {number}", line) for number, line in numbered.items()]
    place, first = lines[0]
    check_time(place, first)
    seen: set[str] = set()
    for where, line in lines:
        differs = (c for c in CELL if line[c] != first[c] and (line[c] or c == "seed"))
        other = next(differs, None)
        if other is not None:
            told = f"{other}: found {line[other]!r}, allowed: {first[other]!r}, as on {place}"
            raise ArtifactError(f"{where}: {told}; {HINT}")
        if line["method"] in seen:
            told = f"{line['method']!r} is there twice for cell {first['cell']}"
            raise ArtifactError(f"{where}: {told}; {HINT}")
        if GATE in (first["status"], line["status"]) and line is not first:
            told = f"status: found {line['status']!r}, allowed: one line for a cell with {GATE}"
            raise ArtifactError(f"{where}: {told}; {HINT}")
        seen.add(line["method"])
    gate = first["reason"] if first["status"] == GATE else ""
    lines = [] if gate else lines
    return CellRecord(
        _count(place, first, "seed"), first["cell"], first["version"], first["commit"],
        first["finished"], _number(place, first, "accuracy"),
        _number(place, first, "ece") if first["ece"] else None,
        {part: _count(place, first, part) for part in PARTS},
        [row for where, line in lines for row in _rows(where, line)],
        {
            line["method"]: errors
            for where, line in lines
            if (errors := _errors(where, line))
        },
        gate,
        {line["method"]: number for number, line in numbered.items()},
    )  # fmt: skip


def _rows(where: str, line: Line) -> Iterator[Row]:
    for column in line:
        measure, _, rest = column.partition(" ")
        if measure != "auroc" or (line["status"] == ORACLE_STATUS and not line[column]):
            continue
        group, _, ood = rest.partition(" ")
        row: Row = {"seed": int(line["seed"]), "ood": ood, "group": group}
        row |= {key: line[key] for key in ("method", "status", "reason")}
        measures = {"ok": MEASURES, ORACLE_STATUS: MEASURES[:1]}.get(line["status"], ())
        figures = {m: _number(where, line, f"{m} {rest}") for m in measures}
        check_figures(where, rest, figures)
        yield row | {measure: figure / 100 for measure, figure in figures.items()}


def _errors(where: str, line: Line) -> dict[str, float]:
    if line["status"] != "ok" or line["method"] == PRIMARY:
        return {}
    near = any(column.startswith("auroc near ") for column in line)
    return {n: _number(where, line, f"error_{n}") for n in (ERRORS if near else ERRORS[:1])}


def _count(where: str, line: Line, column: str) -> int:
    if not line[column].isdecimal():
        told = f"{column}: found {line[column]!r}, allowed: a whole number"
        raise ArtifactError(f"{where}: {told}; {HINT}")
    return int(line[column])


def _number(where: str, line: Line, column: str) -> float:
    text = line.get(column, "")
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:  # nor NaN
        told = f"{column}: found {text!r}, allowed: a number from 0 to 100"
        raise ArtifactError(f"{where}: {told}; {HINT}")
    return value
