"""What follows from what, by the hashes that a run records of its stages."""

from __future__ import annotations

from typing import Any

import pytest

from nervecode.lab.run.stale import shown_in, stale, stale_files


def record(inputs: Any, **outputs: str) -> dict[str, Any]:
    return {"inputs": inputs, "outputs": outputs}


def meta() -> dict[str, Any]:
    """Two seeds, and figures of both."""
    stages: dict[str, Any] = {}
    for seed in "01":
        stages[f"train/seed_{seed}"] = record({"seed": int(seed)}, weights=f"w{seed}")
        stages[f"calibrate/seed_{seed}"] = record({"checkpoint": f"w{seed}"}, codes=f"c{seed}")
        stages[f"score/seed_{seed}"] = record({"calibration": f"c{seed}"}, scores=f"s{seed}")
    scores = {f"score/seed_{seed}": {"scores": f"s{seed}"} for seed in "01"}
    stages["tables"] = record({"scores": scores}, rows="r")
    return {"stages": stages, "derived": {"plots": record({}, picture="p"), "report": record({})}}


FIGURES = ["tables", "plots", "report"]


def test_a_run_as_it_was_made_has_nothing_stale() -> None:
    assert stale(meta()) == []


@pytest.mark.parametrize(
    ("stage", "expected"),
    [
        ("train/seed_1", ["calibrate/seed_1", "score/seed_1", *FIGURES]),
        ("calibrate/seed_1", ["score/seed_1", *FIGURES]),
        ("score/seed_1", FIGURES),
        ("tables", []),
    ],
)
@pytest.mark.parametrize("gone", [False, True])
def test_what_followed_from_a_stage_that_is_another_or_gone(
    stage: str, expected: list[str], gone: bool
) -> None:
    run = meta()
    if gone:
        del run["stages"][stage]
    else:
        run["stages"][stage]["outputs"] = dict.fromkeys(run["stages"][stage]["outputs"], "other")
    assert stale(run) == expected


def test_the_files_of_stale_stages_are_named() -> None:
    run = meta()
    run["stages"]["calibrate/seed_0"]["inputs"] = {"checkpoint": "another"}
    assert stale_files(run) == {"codes", "scores", "rows", "picture"}


@pytest.mark.parametrize("inputs", [None, 3, "text", ["checkpoint"], {}])
def test_a_record_that_says_nothing_is_not_judged(inputs: Any) -> None:
    run = meta()
    for key in ("calibrate/seed_0", "score/seed_0", "tables"):
        run["stages"][key]["inputs"] = inputs
    assert stale(run) == []


def test_what_shows_a_stage_goes_before_it_begins_anew() -> None:
    run = meta()
    assert shown_in(run, "train/seed_0") == FIGURES
    assert shown_in(run, "tables") == ["plots", "report"]
    assert shown_in(run, "plots") == []
    assert shown_in({"stages": {}, "derived": {}}, "train/seed_0") == []
