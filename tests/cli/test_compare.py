"""`nervecode compare` and the formats it shares with `nervecode runs`."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import ttest_rel

from nervecode.lab.results.compare import HEADLINE, Entry, rank_methods
from nervecode.lab.results.tables import best_and_second
from tests.lab.made_up import make_run

FAILED = {"required": 0.99, "passed": False, "accuracy": {"0": 0.4, "1": 0.95}}


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """One that is whole, one better and gated but shown, one that failed."""
    folder = tmp_path / "runs"
    return [
        make_run(folder / "one", {"nervecode": [0.80, 0.82], "knn": [0.7, 0.75]},
                 config={"name": "one", "train": {"epochs": 1, "batch_size": 2}}),
        make_run(folder / "two", {"nervecode": [0.90, 0.97], "knn": [0.6, 0.75]},
                 config={"name": "two", "train": {"epochs": 3, "batch_size": 2}},
                 gate=FAILED, status="gate_failed", demo=True),
        make_run(folder / "x", {}, config={"name": "x", "train": {"epochs": 1, "batch_size": 2}},
                 status="failed", error="it | broke"),
    ]  # fmt: skip


def test_runs_stand_side_by_side_with_paired_differences(cli: Any, runs: list[Path]) -> None:
    found = cli("compare", *runs[:2])
    assert found.status == 0, found.err
    first, second = np.array([80.0, 82]), np.array([90.0, 97])
    interval = ttest_rel(second, first).confidence_interval(0.95)
    expected = f"93.50±4.95 (2) +12.50 [{interval.low:+.2f}, {interval.high:+.2f}]"
    assert "81.00±1.41 (2)" in found.out
    assert expected in found.out
    assert "DEMO: FAILED GATE: [2]" in found.out
    assert "train.epochs" in found.out
    assert "train.batch" not in found.out
    assert f"Next: nervecode report {runs[0]}" in found.err


def test_failed_and_gated_runs_stay_visible(cli: Any, runs: list[Path]) -> None:
    rows = json.loads((runs[1] / "results.json").read_text())["rows"]
    withheld = [row | {"status": "not_reported", "auroc": ""} for row in rows]
    _replace(runs[1], withheld)
    found = cli("compare", *runs)
    assert found.status == 0, found.err
    lines = found.out.splitlines()
    line = next(line for line in lines if line.split()[:1] == ["knn"])
    assert line.split()[-2:] == ["withheld", "failed"]
    assert any("gate_failed DEMO" in line and "40.00 %" in line for line in lines)
    assert any(" x " in line and "failed" in line for line in lines)


def _replace(run: Path, rows: list[dict[str, Any]]) -> None:
    from nervecode.lab.results.rows import write_rows
    from nervecode.lab.run.directory import RunDir

    opened = RunDir(run)
    opened.stage("tables", None, "withheld", lambda: write_rows(opened, rows, FAILED))
    opened.update(gate=FAILED)


def test_json_and_csv_say_the_same(cli: Any, runs: list[Path]) -> None:
    document = json.loads(cli("compare", *runs, "--json").out)
    assert document["schema_version"] == 1
    assert [run["gate"] for run in document["runs"]] == ["passed", "failed", "passed"]
    assert document["runs"][2]["error"] == "it | broke"
    assert document["settings"]["train.epochs"] == [1, 3, 1]
    table = cli("compare", *runs, "--csv").out
    lines = list(csv.DictReader(io.StringIO(table)))
    assert lines == [
        {key: "" if value is None else str(value) for key, value in entry.items()}
        for entry in document["entries"]
    ]
    assert {line["measure"] for line in lines} == {"near+far", "near", "far", "a", "b"}


def test_markdown_and_latex_hold_the_same_cells(cli: Any, runs: list[Path]) -> None:
    page = cli("compare", *runs[:2], "--md").out
    assert "| nervecode | *81.00±1.41 (2)* | **93.50±4.95 (2) +12.50" in page
    paper = cli("compare", *runs[:2], "--latex").out
    cells = r"\underline{81.00$\pm$1.41 (2)} & \textbf{93.50$\pm$4.95 (2) +12.50"
    assert f"nervecode & {cells}" in paper
    assert paper.count(r"\begin{table}") == page.count("## ") == 4


def test_another_metric_and_method(cli: Any, runs: list[Path]) -> None:
    found = cli("compare", *runs[:2], "--metric", "fpr95", "--method", "knn")
    assert "fpr95 x100 ↓: knn on every set" in found.out
    assert "lower is better" in found.out


def test_other_data_under_one_name_are_told(cli: Any, tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, {"nervecode": [0.5, 0.6]}, datasets={"ood_a": name})
            for name in ("one", "two")]  # fmt: skip
    assert "Not the same data in every run: ood_a" in cli("compare", *runs).err


@pytest.mark.parametrize(
    ("arguments", "words", "status"),
    [
        (["one"], "found 1 run, allowed: two or more", 2),
        (["one", "one"], "the run one is given twice", 2),
        (["one", "tow"], "no such run directory; did you mean 'two'?", 2),
        (["one", "two", "--metric", "aurok"], "did you mean 'auroc'?", 2),
        (["one", "two", "--method", "nervcode"], "did you mean 'nervecode'?", 2),
        (["one", "two", "--json", "--md"], "--json and --md: allowed: one of", 2),
    ],
)
def test_bad_input(
    cli: Any, runs: list[Path], arguments: list[str], words: str, status: int
) -> None:
    names = {"one", "two", "tow"}
    folder = runs[0].parent
    found = cli("compare", *[folder / a if a in names else a for a in arguments])
    assert found.status == status
    assert words in found.err
    assert found.out == ""


def test_a_damaged_result_is_an_artifact_error(cli: Any, runs: list[Path]) -> None:
    (runs[1] / "results.json").write_text("{}")
    found = cli("compare", *runs)
    assert found.status == 4
    assert "results.json: is damaged" in found.err


def test_a_result_that_is_gone_is_an_artifact_error(cli: Any, runs: list[Path]) -> None:
    """And not a run that has not come so far."""
    (runs[1] / "results.json").unlink()
    found = cli("compare", *runs)
    assert found.status == 4
    assert f"results.json: is missing; `nervecode bench {runs[1]} --repair` makes it" in found.err
    listed = json.loads(cli("runs", runs[1].parent, "--json").out)["runs"]
    headlines = {row["run"]: row["headline"] for row in listed}
    assert headlines[runs[1].name] == "results.json is missing or damaged"
    assert "missing" not in headlines[runs[0].name]


@pytest.mark.parametrize("form", ["--csv", "--md", "--latex", "--json"])
def test_runs_are_listed_in_every_format(cli: Any, runs: list[Path], form: str) -> None:
    found = cli("runs", runs[0].parent, form)
    assert found.status == 0
    for word in ("one", "two", "81.00 ± 1.41" if form != "--latex" else r"81.00 $\pm$ 1.41"):
        assert word in found.out or json.dumps(word)[1:-1] in found.out
    assert "it / broke" in found.out
    assert "Next: nervecode compare" in found.err


@pytest.mark.slow
def test_comparing_loads_no_torch(runs: list[Path]) -> None:
    code = (
        "import sys; from nervecode.cli.main import run\n"
        f"assert run(['compare', {str(runs[0])!r}, {str(runs[1])!r}]) == 0\n"
        "assert 'torch' not in sys.modules, 'torch was loaded'\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


def test_a_picture_ranks_the_methods_over_the_runs(
    cli: Any, runs: list[Path], tmp_path: Path
) -> None:
    folder = tmp_path / "more"
    more = [
        make_run(folder / name, {"nervecode": [0.9], "knn": [knn], "msp": [0.6], "lost": [0.1]})
        for name, knn in (("a", 0.8), ("b", 0.95), ("c", 0.7))
    ]
    third = make_run(folder / "d", {"nervecode": [0.9], "knn": [0.7], "msp": [0.6]}, demo=True)
    output = tmp_path / "ranks.svg"
    found = cli("compare", *more, third, runs[2], "--plot", output)
    assert found.status == 0, found.err
    text = output.read_text()
    # Of four runs that have figures, nervecode leads three; `lost` is not in all of them.
    for words in ("nervecode  1.25", "knn  1.75", "3.00  msp", "over 4 settings", ">DEMO<"):
        assert words in text
    assert "lost" not in text
    assert f"Plot: {output}" in found.err
    again = cli("compare", *more, "--plot", output)
    assert (again.status, "exists; --force replaces it" in again.err) == (2, True)
    assert cli("compare", *more, "--plot", output, "--force").status == 0


def test_ranks_need_two_runs_and_three_methods(cli: Any, runs: list[Path], tmp_path: Path) -> None:
    found = cli("compare", *runs, "--plot", tmp_path / "ranks.png")
    assert found.status == 2
    assert "found 2 runs with figures and 2 methods that all of them have" in found.err
    assert cli("compare", *runs, "--plot", tmp_path / "ranks.gif").status == 2
    assert not list(tmp_path.glob("ranks.*"))


def test_the_best_and_the_second_run_of_a_line_are_marked(cli: Any, runs: list[Path]) -> None:
    assert best_and_second([0.8, 0.9, None]) == ({1}, {0})
    assert best_and_second([0.8, 0.9, None], lower=True) == ({0}, {1})
    assert best_and_second([0.7, 0.70001, 0.6]) == ({0, 1}, {2})  # equal as shown
    assert best_and_second([0.7, None, 0.7]) == ({0, 2}, set())
    assert best_and_second([None, None]) == (set(), set())
    text = cli("compare", *runs[:2], "--md").out
    assert "## auroc x100 ↑: near+far of every method" in text
    assert re.search(r"\| nervecode \| \*81\.00±.* \| \*\*93\.50±", text)


def test_lower_is_better_where_it_is() -> None:
    entries = [
        Entry(run, method, HEADLINE, mean, 0.0, 1, None)
        for run in ("a", "b")
        for method, mean in (("x", 0.1), ("y", 0.2), ("z", 0.3), ("combo_x", 0.0))
    ]
    assert rank_methods(entries, "fpr95").average == {"x": 1, "y": 2, "z": 3}
    assert rank_methods(entries, "auroc").average == {"z": 1, "y": 2, "x": 3}
