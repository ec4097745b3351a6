"""The same config gives the same bits on one machine; other threads judge a network the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from nervecode.lab.machine.progress import Progress
from nervecode.lab.run.directory import RunDir
from nervecode.lab.stages.reproduce import reproduce
from tests.trust import processes
from tests.trust.test_crash import same_results

# A network that is large enough for two threads to share its work; the caller says how many.
DIGITS: dict[str, Any] = {
    "extends": "digits",
    "name": "threads",
    "seeds": [0],
    "device": "cpu",
    "threads": None,
    "data": {"far": ["photo_patches"], "shift": ["rotate:90"]},
    "train": {"epochs": 2},
    "bench": {"detectors": ["energy", "mahalanobis", "knn", "vim"], "accuracy_gate": 0.0},
}


@pytest.fixture
def threads() -> Iterator[Any]:
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def bench(config: Path, folder: Path) -> RunDir:
    status, err = processes.start("bench", "--config", config, "--outdir", folder).wait()
    assert status == 0, err
    (root,) = folder.iterdir()
    return RunDir(root)


def test_the_same_config_gives_the_same_bits(config: Path, finished: Path, tmp_path: Path) -> None:
    run = bench(config, tmp_path)
    same_results(run.root, finished)
    one, other = ((run.root / f"scores/seed_{s}/id_test.npz").read_bytes() for s in (0, 1))
    assert one != other


@pytest.mark.slow
def test_another_number_of_threads_judges_a_network_the_same(threads: Any, tmp_path: Path) -> None:
    path = tmp_path / "digits.yaml"
    path.write_text(json.dumps(DIGITS))
    run = bench(path, tmp_path / "runs")
    number = 2 if run.meta["device"]["threads"] == 1 else 1
    threads(number)
    lines, _ = reproduce(run, device=None, tolerance=1e-3, progress=Progress())
    assert torch.get_num_threads() == number
    assert lines == []
