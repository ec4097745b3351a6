"""The scripts that draw: the picture of the README, and what pictures cost."""

from __future__ import annotations

import re
import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from .conftest import finish_run, rehash, write_run

SCRIPTS = Path(__file__).parents[2] / "scripts"


def script(name: str) -> ModuleType:
    spec = spec_from_file_location(name, SCRIPTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module  # a dataclass looks itself up
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_the_picture_of_the_readme_is_drawn_from_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = script("readme_picture")
    sets = {name.removeprefix("ood_"): "far" for name in found.SETS if name != "id_test"}
    run = finish_run(write_run(tmp_path / "run", layers=len(found.LAYERS), groups=sets),
                     split_sizes=dict.fromkeys(found.SETS, 80))  # fmt: skip
    inputs = np.random.default_rng(2).random((80, 1, 8, 8))
    monkeypatch.setattr(found, "images", lambda run: dict.fromkeys(found.SETS, inputs))
    found.draw(run, tmp_path / "picture.svg")
    text = (tmp_path / "picture.svg").read_text()
    assert all(words in text for words in (*found.SETS.values(), *found.LAYERS))
    assert "80 + 80 + 80 + 80 + 80" in text
    scores = {split: np.load(run / f"scores/seed_0/{split}.npz")["nervecode"]
              for split in ("id_calibration", "ood_digits_8_9")}  # fmt: skip
    above = (scores["id_calibration"][None] >= scores["ood_digits_8_9"][:, None]).sum(1)
    flagged = 100 * np.mean((1 + above) / 81 <= 0.05)
    assert f"8 and 9, never seen: {flagged:.0f} % flagged" in text
    with Image.open(SCRIPTS.parent / "docs/images/surprise.png") as shown:
        assert (np.asarray(shown.convert("L")) < 128).mean() > 0.005


def test_the_inputs_of_the_picture_are_those_of_the_data_sets(finished: Path) -> None:
    shutil.copy(SCRIPTS.parent / "configs/digits.yaml", finished / "config.yaml")
    rehash(finished)
    inputs = script("readme_picture").images(finished)
    wanted = script("readme_picture").SETS
    assert {inputs[split].shape[1:] for split in wanted} == {(1, 8, 8)}
    assert len(inputs["id_test"]) == 289


@pytest.mark.slow
def test_bench_plots_prints_what_each_costs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finish_run(write_run(tmp_path / "run"))
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    monkeypatch.setattr(sys, "argv", ["x", str(run), "--samples", "600", "--layers", "3"])
    script("bench_plots").main()
    _, *lines = capsys.readouterr().out.splitlines()
    figures = re.compile(r"(.+?)  +(\d+\.\d) s +(\d+\.\d) s +(\d+) MB")
    found = [match for line in lines if (match := figures.fullmatch(line))]
    assert [one[1] for one in found] == [
        "plot --kind all", "layerwise, 600 samples by 3 layers", "report",
    ]  # fmt: skip
    assert all(float(one[2]) > 0 and int(one[4]) > 30 for one in found)
    assert re.fullmatch(r"the page +\d\.\d\d MB on disk", lines[-1])
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
