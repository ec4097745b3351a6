"""Diagnostics by counting, and the loggers' files."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from nervecode.core import Codebook, CodingTrace, SoftAssignment
from nervecode.errors import InputError
from nervecode.training import CsvDiagnosticsLogger, DiagnosticsCollector, JsonlDiagnosticsLogger


def test_rows_by_counting() -> None:
    book = Codebook.from_centres(torch.tensor([[0.0], [10.0], [100.0]]))
    batches = [torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0], [9.0]])]
    collector = DiagnosticsCollector()
    for z in batches:
        code = book(z, SoftAssignment())
        collector.update({"layer": CodingTrace(SoftAssignment().surprise(code), code, z)})
    z = torch.cat(batches).double().numpy()
    d2 = (z - [[0.0, 10.0, 100.0]]) ** 2
    p = np.exp(-d2) / np.exp(-d2).sum(1, keepdims=True)
    (row,) = collector.rows(epoch=3)
    assert list(row) == ["epoch", "layer", "utilisation", "entropy", "code_length", "distance"]
    assert (row["epoch"], row["layer"]) == (3, "layer")
    assert row["utilisation"] == pytest.approx(2 / 3)
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum(1).mean()
    assert row["entropy"] == pytest.approx(entropy, abs=1e-6)
    assert row["code_length"] == pytest.approx(-np.log(p.max(1)).mean(), abs=1e-6)
    assert row["distance"] == pytest.approx(d2.min(1).mean(), rel=1e-5)
    assert collector.rows() == []  # the sums start again


ROWS = [
    {"epoch": 0, "layer": "a,b", "entropy": 0.5},
    {"epoch": 1, "layer": "c", "entropy": 1.5},
]


def test_csv_is_appended_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    CsvDiagnosticsLogger(path).log(ROWS)
    CsvDiagnosticsLogger(path).log([ROWS[0]])  # another process goes on
    CsvDiagnosticsLogger(path).log([])
    with path.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [{k: str(v) for k, v in row.items()} for row in [*ROWS, ROWS[0]]]


def test_csv_refuses_other_columns_and_writes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    logger = CsvDiagnosticsLogger(path)
    with pytest.raises(InputError, match=r"rows.csv: found columns \['odd'\], allowed: \['epoch'"):
        logger.log([ROWS[0], {"odd": 1}])
    assert not path.exists()
    logger.log(ROWS)  # and the header is still to come
    assert path.read_text().startswith("epoch,layer,entropy\n")


def test_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    logger = JsonlDiagnosticsLogger(path)
    logger.log(ROWS)
    logger.log(ROWS[:1])
    found = [json.loads(line) for line in path.read_text().splitlines()]
    assert found == [*ROWS, ROWS[0]]
    with pytest.raises(InputError, match=r"rows.jsonl: a row cannot be written as JSON"):
        logger.log([{"entropy": float("nan")}])
    assert len(path.read_text().splitlines()) == 3
