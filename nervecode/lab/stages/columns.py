"""The stage `columns`: what was fitted to the columns of an ID table, for inputs to come."""

from __future__ import annotations

from pathlib import Path

from nervecode.files import read_json, write_json
from nervecode.lab.data.by_path.encoder import TableEncoder
from nervecode.lab.ranks.job import current
from nervecode.lab.run.directory import RunDir

STAGE = "columns"


def write_columns(run: RunDir, encoder: TableEncoder | None) -> None:
    """Keep the encoder of an ID table in a run; other sets have none."""
    if encoder is None or not current().leads:
        return
    values = encoder.to_json()

    def work() -> list[Path]:
        write_json(run.paths.columns, values)
        return [run.paths.columns]

    run.stage(STAGE, None, values, work)


def read_columns(run: RunDir) -> TableEncoder | None:
    """The encoder of a run; None where its ID set is no table.

    Raises:
        ArtifactError: its file is missing or damaged.
    """
    if STAGE not in run.meta["stages"]:
        return None
    path = run.verified(run.paths.columns)
    return TableEncoder.from_json(read_json(path), source=str(path))
