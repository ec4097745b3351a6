"""`nervecode train`: made, gone on with, and what `meta.json` says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from nervecode.lab.device import choose_device, set_determinism


@pytest.fixture(autouse=True)
def any_algorithm() -> Any:
    yield
    set_determinism(choose_device("cpu"), wanted=False)


def trained(cli: Any, tiny_file: Path, folder: Path, *options: str) -> Path:
    found = cli("train", "--config", tiny_file, "--outdir", folder, *options)
    assert found.status == 0, found.err
    (run,) = folder.iterdir()
    return run


def test_a_run_is_gone_on_with(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    run = trained(cli, tiny_file, tmp_path, "--seeds", "0")
    before = (run / "checkpoints/seed_0.safetensors").read_bytes()
    found = cli("train", run, "--seeds", "0,1", "-o", "threads=1")
    assert found.status == 0, found.err
    assert "seed 0: train was done before" in found.err
    assert found.out.splitlines() == [f"{run}/checkpoints/seed_{s}.safetensors" for s in (0, 1)]
    assert (run / "checkpoints/seed_0.safetensors").read_bytes() == before
    assert json.loads((run / "meta.json").read_text())["seeds"] == [0, 1]
    straight = trained(cli, tiny_file, tmp_path / "straight")
    one, other = (load_file(root / "checkpoints/seed_1.safetensors") for root in (run, straight))
    assert all(bool((one[key] == other[key]).all()) for key in other)


def test_a_run_and_a_preset_exclude_each_other(cli: Any, finished: Path) -> None:
    found = cli("train", finished, "--preset", "digits")
    assert found.status == 2
    assert "train: give RUN alone, or --preset NAME, or --config FILE" in found.err
    assert "train: give one of --preset NAME, --config FILE and RUN" in cli("train").err


def test_the_guarantee_that_held_is_noted(cli: Any, tiny_file: Path, tmp_path: Path) -> None:
    plain = trained(cli, tiny_file, tmp_path / "plain", "--seeds", "0")
    strict = trained(cli, tiny_file, tmp_path / "strict", "--seeds", "0", "--deterministic")
    told = [json.loads((run / "meta.json").read_text())["determinism"] for run in (plain, strict)]
    assert [one["deterministic"] for one in told] == [False, True]
    assert "with as many threads" in told[0]["guarantee"]
    assert "deterministic algorithms only" in told[1]["guarantee"]
    assert "deterministic: true" in (strict / "config.yaml").read_text()
