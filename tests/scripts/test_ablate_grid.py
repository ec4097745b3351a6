"""The script of ablations: a row per cell and group, with the settings of the cell."""

from __future__ import annotations

import csv
import runpy
import sys
from pathlib import Path

import pytest

from nervecode.lab.run.directory import RunDir

SCRIPT = str(Path(__file__).parents[2] / "scripts/ablate_grid.py")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [SCRIPT, *map(str, arguments)])
    runpy.run_path(SCRIPT, run_name="__main__")


@pytest.mark.slow
def test_every_cell_is_a_run_and_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    axes = ("signals.nervecode.num_codes=4,2,8", "train.epochs=2,1,3")
    run(monkeypatch, "--fast", "--outdir", tmp_path, *axes)
    with (tmp_path / "ablation.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    cells = [(row["signals.nervecode.num_codes"], row["train.epochs"]) for row in rows]
    assert cells == [("4", "2"), ("4", "1"), ("2", "2"), ("2", "1")]
    for row, (codes, epochs) in zip(rows, cells, strict=True):
        found = RunDir(tmp_path / row["run"])
        assert found.config.signals["nervecode"].num_codes == int(codes)
        assert found.config.train.epochs == int(epochs)
        assert found.config.seeds == (0,)
        assert row["group"] == "far"
        assert 0 <= float(row["auroc_mean"]) <= 1
        assert float(row["seconds"]) > 0
        # Two layers of 64 channels: a projection to 8, K centres, their priors, a normaliser.
        assert int(row["codes"]) == 2 * (64 * 8 + int(codes) * 8 + int(codes) + 1)


def test_a_bad_axis_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as caught:
        run(monkeypatch, "--outdir", tmp_path, "train.epoch=1")
    assert "train.epoch: unknown key; did you mean 'epochs'?" in str(caught.value)
    assert not list(tmp_path.iterdir())


def test_rows_that_are_there_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ablation.csv"
    path.write_text("hours of work\n")
    with pytest.raises(SystemExit, match=r"ablation\.csv: exists; --force"):
        run(monkeypatch, "--outdir", tmp_path, "train.epochs=1")
    with pytest.raises(SystemExit, match="unknown key"):  # of the second cell
        run(monkeypatch, "--force", "--outdir", tmp_path, "train={epochs: 1},{epoch: 1}")
    assert path.read_text() == "hours of work\n"
