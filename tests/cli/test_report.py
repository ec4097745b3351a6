"""`nervecode report`, and the report that ends a bench."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nervecode.files import sha256
from nervecode.lab.config.stored import load_config
from nervecode.lab.data.splits import build_splits


def outputs(run: Path, stage: str) -> Any:
    return json.loads((run / "meta.json").read_text())["derived"][stage]["outputs"]


def test_a_bench_ends_with_a_report_whose_hash_is_kept(benched: Any, finished: Path) -> None:
    page = finished / "report.html"
    assert f"Report: {page}" in benched.err
    assert page.stat().st_size < 3e6
    assert outputs(finished, "report")["report.html"] == sha256(page)
    text = page.read_text()
    for kind in ("layerwise", "roc", "scores", "training"):
        assert f"plots/{kind}_seed_0.png" in outputs(finished, "plots")
    assert text.count("data:image/png") > 4
    summary = json.loads((finished / "results.json").read_text())["summary"]
    one = next(s for s in summary if (s["method"], s["group"]) == ("energy", "near"))
    assert f"{100 * one['auroc_mean']:.2f}±{100 * one['auroc_std']:.2f}" in text


def test_the_inputs_kept_are_the_most_surprising(finished: Path) -> None:
    splits = build_splits(load_config(finished / "config.yaml").data, limit_eval=50)
    for split, samples in splits.evaluated().items():
        arrays = np.load(finished / f"layerwise/seed_0/{split}.npz")
        scores = np.load(finished / f"scores/seed_0/{split}.npz")["nervecode"]
        shown = arrays["shown"]
        assert len(shown) == 6
        np.testing.assert_allclose(scores[shown], np.sort(scores)[::-1][:6], rtol=1e-6)
        expected = 255 * samples.inputs[shown.tolist()].clamp(0, 1).numpy()
        np.testing.assert_allclose(arrays["shown_inputs"], expected, atol=0.5)
        assert arrays["shown_inputs"].dtype == np.uint8


@pytest.mark.slow
def test_a_report_is_made_again_and_the_run_stays_whole(cli: Any, run_copy: Path) -> None:
    page = run_copy / "report.html"
    page.write_text("damaged")
    (run_copy / "plots/roc_seed_0.png").unlink()
    refused = cli("report", run_copy)
    assert refused.status == 4
    assert "roc_seed_0.png: is missing" in refused.err
    assert cli("bench", run_copy, "--repair").status == 0
    page.write_text("damaged")
    found = cli("report", run_copy)
    assert found.status == 0, found.err
    assert found.out.strip() == str(page)
    assert "Next: nervecode compare" in found.err
    assert outputs(run_copy, "report")["report.html"] == sha256(page)
    assert cli("bench", run_copy).status == 0


def test_a_report_elsewhere_leaves_the_run_alone(
    cli: Any, finished: Path, tree: Any, tmp_path: Path
) -> None:
    before = tree(finished)
    output = tmp_path / "page.html"
    found = cli("report", finished, "--output", output)
    assert (found.status, found.out.strip()) == (0, str(output))
    assert output.read_text() == (finished / "report.html").read_text()
    again = cli("report", finished, "--output", output)
    assert again.status == 2
    assert "exists; --force replaces it" in again.err
    assert cli("report", finished, "--output", output, "--force").status == 0
    assert tree(finished) == before


def test_a_report_opens_in_the_browser(
    cli: Any, finished: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("typer.launch", opened.append)
    output = tmp_path / "page.html"
    assert cli("report", finished, "--output", output, "--open").status == 0
    assert opened == [output.as_uri()]


@pytest.mark.slow
def test_a_failed_gate_has_a_report_without_figures(
    cli: Any, tiny_file: Path, tmp_path: Path
) -> None:
    found = cli("bench", "--config", tiny_file, "--outdir", tmp_path, "-o", "train.epochs=1",
                "-o", "seeds=[0]", "--accuracy-gate", "0.999")  # fmt: skip
    assert found.status == 3
    (run,) = tmp_path.iterdir()
    text = (run / "report.html").read_text()
    assert "FAILED GATE" in text
    assert "Accuracy gate not passed" in text
    assert "AUROC" not in text.partition("<main")[2].partition("config.yaml")[0]
    assert not (run / "plots").exists()
    refreshed = cli("report", run)
    assert refreshed.status == 0, refreshed.err
    assert not (run / "plots").exists()


def test_a_run_that_is_not_finished_names_the_next_command(
    cli: Any, run_copy: Path, tmp_path: Path
) -> None:
    (run_copy / "results.json").unlink()
    found = cli("report", run_copy)
    assert found.status == 4
    assert f"results.json: is missing; `nervecode bench {run_copy} --repair` makes it" in found.err
    assert cli("report", tmp_path / "nothing").status == 2
