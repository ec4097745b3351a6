"""Comparing runs: paired differences against scipy, settings and data that differ, LaTeX."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import ttest_rel

from nervecode.errors import ArtifactError
from nervecode.lab.results.compare import (
    compare_runs,
    differing_data,
    differing_settings,
    figures,
    paired,
)
from nervecode.lab.results.latex import as_latex
from nervecode.lab.results.table import Table
from nervecode.lab.run.directory import RunDir
from tests.lab.made_up import make_run, row


def test_a_paired_difference_is_students(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    one, other = random.normal(size=(2, 5))
    found = paired(dict(enumerate(one)), dict(enumerate(other)))
    expected = ttest_rel(one, other).confidence_interval(0.95)
    assert found is not None
    assert (found.mean, found.low, found.high) == pytest.approx(
        (np.mean(one - other), expected.low, expected.high)
    )
    assert found.pairs == 5


def test_only_shared_seeds_are_paired() -> None:
    found = paired({0: 0.9, 1: 0.8, 7: 0.1}, {1: 0.5, 0: 0.4, 8: 1.0})
    assert found is not None
    assert (found.mean, found.pairs) == (pytest.approx(0.4), 2)
    assert paired({0: 1.0}, {1: 1.0}) is None


def test_one_pair_has_no_interval_and_no_verdict() -> None:
    found = paired({0: 0.9}, {0: 0.5})
    assert found is not None
    assert math.isnan(found.low) and math.isnan(found.high)
    assert found.verdict == "not told apart"


@pytest.mark.parametrize(
    ("shift", "verdict"), [(1.0, "higher"), (-1.0, "lower"), (0.0, "not told apart")]
)
def test_a_verdict_needs_an_interval_without_zero(shift: float, verdict: str) -> None:
    one = {0: shift + 0.1, 1: shift - 0.1, 2: shift + 0.01, 3: shift - 0.01}
    found = paired(one, dict.fromkeys(one, 0.0))
    assert found is not None and found.verdict == verdict


def test_figures_are_means_over_the_sets_of_a_group() -> None:
    rows = [row(0, "a", "near", "m", 0.2), row(0, "b", "far", "m", 0.4),
            row(0, "c", "far", "m", 0.8), row(1, "a", "near", "m", 0.6),
            {**row(0, "a", "near", "bad", 0.0), "status": "failed", "auroc": ""}]  # fmt: skip
    found = figures(rows, "auroc")
    assert set(found) == {"m"}
    assert found["m"] == {
        "near+far": {0: pytest.approx(0.4)},
        "near": {0: 0.2, 1: 0.6},
        "far": {0: pytest.approx(0.6)},
        "a": {0: 0.2, 1: 0.6},
        "b": {0: 0.4},
        "c": {0: 0.8},
    }


def test_another_metric_is_read_from_its_own_column() -> None:
    rows = [{**row(0, "a", "near", "m", 0.2), "fpr95": 0.7}]
    assert figures(rows, "fpr95")["m"]["a"] == {0: 0.7}


def test_entries_hold_the_difference_from_the_first_run(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", {"m": [0.5, 0.6], "only": [0.1, 0.2]})
    two = make_run(tmp_path / "two", {"m": [0.7, 0.9]})
    entries = compare_runs([RunDir(one), RunDir(two)], "auroc")
    found = {(e.run, e.method, e.measure): e for e in entries}
    assert found["one", "m", "near"].difference is None
    entry = found["two", "m", "near"]
    assert entry.mean == pytest.approx(0.8)
    assert entry.std == pytest.approx(np.std([0.7, 0.9], ddof=1))
    assert entry.difference is not None
    assert entry.difference.mean == pytest.approx(0.25)
    assert entry.row()["difference_mean"] == pytest.approx(0.25)
    assert ("two", "only", "near") not in found


def test_only_settings_that_differ_are_listed(tmp_path: Path) -> None:
    one = make_run(
        tmp_path / "one", {}, config={"name": "x", "train": {"epochs": 1}, "description": "x"}
    )
    two = make_run(tmp_path / "two", {}, config={"name": "x", "train": {"epochs": 2}, "threads": 1})
    found = differing_settings([RunDir(one), RunDir(two)])
    assert found == {"train.epochs": [1, 2], "threads": [None, 1]}
    (two / "config.yaml").unlink()
    with pytest.raises(ArtifactError, match=r"config\.yaml: no such file"):
        differing_settings([RunDir(one), RunDir(two)])


def test_data_of_one_name_and_other_bytes_are_named(tmp_path: Path) -> None:
    one = make_run(tmp_path / "one", {}, datasets={"id_test": "1", "ood_a": "2"})
    two = make_run(tmp_path / "two", {}, datasets={"id_test": "1", "ood_a": "3", "ood_b": "4"})
    assert differing_data([RunDir(one), RunDir(two)]) == ["ood_a"]


def test_latex_escapes_and_marks() -> None:
    body = [["a_b", "1.0±0.2"], ["[c]", "50 %"]]
    table = Table("A & B", ["x", "y"], body, frozenset({(0, 1)}), frozenset({(1, 1)}))
    text = as_latex(table)
    assert r"a\_b & \textbf{1.0$\pm$0.2} \\" in text
    assert r"{[}c{]} & \underline{50 \%} \\" in text
    assert r"\caption{A \& B.}" in text
    assert r"\begin{tabular}{lr}" in text
    assert text.count(r"\begin") == text.count(r"\end") == 2
