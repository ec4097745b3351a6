"""The earlier package 0.1.1 beside this one: the same public calls, and what they answer.

It is installed from the package index into a folder of its own, pinned by its SHA-256, and run as
a black box. What differs is on docs/migration.md.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
SHA256 = "f0b2d34ca5a2b99c3014ab7a65eb2373f0eb39b29d23bc26af2685ba78e5ce6c"
PIP = ("-m", "pip", "--disable-pip-version-check", "--retries", "1", "--timeout", "20", "--quiet")
pytestmark = pytest.mark.slow

Answers = dict[str, Any]


@pytest.fixture(scope="module")
def old_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds 0.1.1 and nothing else."""
    folder = tmp_path_factory.mktemp("site")
    pinned = folder.with_suffix(".txt")
    pinned.write_text(f"nervecode==0.1.1 --hash=sha256:{SHA256}\n")
    options = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", folder)
    done = subprocess.run(
        [sys.executable, *PIP, "install", *options, "-r", pinned],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert "DO NOT MATCH THE HASHES" not in done.stderr
    if done.returncode:
        pytest.skip("the package index cannot be reached, or has no 0.1.1")
    return folder


def answers(place: Path) -> Answers:
    done = subprocess.run(
        [sys.executable, ROOT / "tests/examples/calls_of_0_1_1.py"],
        cwd=place.parent, env={**os.environ, "PYTHONPATH": str(place), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-300:]
    found: Answers = json.loads(done.stdout)
    assert Path(found["file"]).is_relative_to(place)
    return found


@pytest.fixture(scope="module")
def old(old_site: Path) -> Answers:
    return answers(old_site)


@pytest.fixture(scope="module")
def new() -> Answers:
    return answers(ROOT)


def test_names_are_in_both(old: Answers, new: Answers) -> None:
    assert old["lacking"] == new["lacking"] == []


def test_the_quickstart_answers_alike(old: Answers, new: Answers) -> None:
    """Outputs, shapes, types and names; of the numbers, how many lie above the threshold."""
    first, second = dict(old["quickstart"]), dict(new["quickstart"])
    # 64 scores: 0.1.1 takes the score below the quantile, here the one above it.
    assert (first.pop("above the threshold"), second.pop("above the threshold")) == (4, 3)
    assert first == second
    assert first["outputs stay"] and first["gradients"] and first["mean"] and first["max"]


def test_thresholds_and_percentiles_have_the_same_scale(old: Answers, new: Answers) -> None:
    first, second = old["thresholds"], new["thresholds"]
    assert (first.pop("type"), second.pop("type")) == ("Tensor", "float")
    assert (first.pop("threshold of 10"), second.pop("threshold of 10")) == (9, 10)
    for count in (101, 10):  # by itself: 0.1.1 turns percentiles round where most of a call are low
        lowest = f"lowest of {count}"
        assert first.pop(lowest) == pytest.approx(1 - 1 / count)
        assert second.pop(lowest) == pytest.approx(1 / count)
    for key in first:
        assert second[key] == pytest.approx(first[key], abs=1e-6), key


@pytest.mark.parametrize("package", ["old", "new"])
def test_the_surprise_is_that_of_the_equation(package: str, request: pytest.FixtureRequest) -> None:
    """S = L + H + log1p(d2) of the nearest centre, p = softmax(-d2), in nats."""
    codes = request.getfixturevalue(package)["codes"]
    vectors, centres = (np.array(codes[key], np.float64) for key in ("vectors", "centres"))
    squared = ((vectors[:, None] - centres) ** 2).sum(2)
    log_p = -squared - np.log(np.exp(-squared).sum(1, keepdims=True))
    entropy = -(np.exp(log_p) * log_p).sum(1)
    expected = -log_p.max(1) + entropy + np.log1p(squared.min(1))
    np.testing.assert_allclose(codes["surprise"], expected, rtol=1e-4)
    assert centres.shape[0] == 16


def test_the_recommended_settings_tell_a_far_blob(old: Answers, new: Answers) -> None:
    """Either varies with the seed: its codes may fold the direction in which the blob lies."""
    assert min(old["auroc"]) > 0.7 and min(new["auroc"]) > 0.7
    assert np.mean(new["auroc"]) > np.mean(old["auroc"]) - 0.1
