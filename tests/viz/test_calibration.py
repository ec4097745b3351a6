"""Calibration, matrix, trace, codebooks: what is drawn against NumPy, SciPy and simulation."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import betabinom, binomtest

from nervecode.errors import ArtifactError, InputError
from nervecode.lab.results.rows import read_rows
from nervecode.lab.run.directory import RunDir
from nervecode.scoring import false_alarm_bound
from nervecode.viz import KINDS, calibration, codebooks, matrix
from nervecode.viz.saved import Saved


def test_p_values_are_the_conformal_ones() -> None:
    random = np.random.default_rng(0)
    inside, scores = random.integers(0, 20, 50).astype(float), random.integers(-1, 22, 40)
    expected = [(1 + (inside >= score).sum()) / 51 for score in scores]
    assert calibration.p_values(inside, scores) == pytest.approx(expected)


@pytest.mark.parametrize(("flagged", "n"), [(0, 30), (3, 30), (30, 30)])
def test_intervals_are_clopper_and_pearsons(flagged: int, n: int) -> None:
    found = calibration.alarms(flagged, n, 0.05)
    expected = binomtest(flagged, n).proportion_ci(0.95, method="exact")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.rate == flagged / n


@pytest.mark.parametrize("n", [10, 99, 1000])
def test_the_bound_of_one_calibration_set_is_the_librarys(n: int) -> None:
    assert calibration.bound(n, 0.05) == pytest.approx(false_alarm_bound(n, 0.05), rel=1e-9)


def test_false_alarms_count_p_values_up_to_alpha(run: Path) -> None:
    scores = {name: np.load(run / f"scores/seed_0/{name}.npz")["nervecode"]
              for name in ("id_calibration", "id_test")}  # fmt: skip
    found = calibration.false_alarms(Saved(run), (0.1, 0.5))
    p = calibration.p_values(scores["id_calibration"], scores["id_test"])
    assert [one.rate for one in found] == pytest.approx([(p <= 0.1).mean(), (p <= 0.5).mean()])


def test_the_band_of_percentiles_holds_95_percent_of_exchangeable_inputs() -> None:
    random = np.random.default_rng(1)
    n, others, inside = 40, 60, []
    for _ in range(400):
        sample = random.normal(size=n + others)
        expected, observed, band = calibration.observed_percentiles(sample[:n], sample[n:])
        inside.append((band[0] <= observed) & (observed <= band[1]))
    assert expected == pytest.approx(np.arange(1, n + 1) / (n + 1))
    held = np.mean(inside, axis=0)
    assert 0.94 < held.mean() < 0.99  # of a discrete law, so at least 95 % but for chance
    assert held.min() > 0.9


@pytest.mark.parametrize(("trials", "a", "b"), [(60, 1, 40), (60, 40, 1), (289, 29.0, 261.0)])
def test_quantiles_of_the_beta_binomial_law_are_scipys(trials: int, a: float, b: float) -> None:
    expected = betabinom.ppf(calibration.BAND, trials, a, b)
    assert calibration.beta_binomial(trials, a, b).tolist() == expected.tolist()


def test_a_large_set_is_drawn_in_time() -> None:
    random = np.random.default_rng(3)
    began = time.process_time()
    expected, observed, band = calibration.observed_percentiles(
        random.normal(size=10_000), random.normal(size=60_000)
    )
    assert time.process_time() - began < 5
    assert expected == pytest.approx(observed, abs=0.03)
    assert band.shape == (2, len(expected)) and (band[0] < band[1]).all()


def test_scores_that_lie_higher_leave_the_band() -> None:
    inside = np.random.default_rng(2).normal(size=200)
    _, observed, band = calibration.observed_percentiles(inside, inside + 1)
    assert (observed < band[0]).mean() > 0.5


def test_the_matrix_holds_the_means_of_the_rows(finished: Path) -> None:
    rows = read_rows(RunDir(finished))["rows"]
    sets = ["photos", "held_out"]
    methods, values = matrix.means([row for row in rows if row["ood"] in sets], sets)
    assert methods[-1] == "vim" and np.isnan(values[-1]).all()  # it failed
    for method, found in zip(methods[:-1], values, strict=False):
        expected = [
            np.mean([100 * r["auroc"] for r in rows if (r["method"], r["ood"]) == (method, name)])
            for name in sets
        ]
        assert found == pytest.approx(expected)
    assert values[0].mean() >= values[1].mean() >= values[2].mean()


def test_withheld_figures_are_not_drawn(finished: Path) -> None:
    found = json.loads((finished / "results.json").read_text())
    rows = [row | {"status": "not_reported"} for row in found["rows"]]
    (finished / "results.json").write_text(json.dumps(found | {"rows": rows}))
    run = RunDir(finished)
    run.stage("tables", None, "again", lambda: [finished / "results.json"])
    with pytest.raises(ArtifactError, match=r"withheld.*--allow-low-accuracy` writes them"):
        KINDS["matrix"](finished)


@pytest.mark.slow
def test_the_trace_of_a_sample_is_that_of_the_file(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[np.ndarray] = []
    monkeypatch.setattr("nervecode.viz.trace._draw", lambda *given: drawn.append(given[2]))
    KINDS["trace"](run, ood=["photos"], sample=5, output=tmp_path / "a.png")
    KINDS["trace"](run, ood=["photos"], output=tmp_path / "b.png")
    inside = np.load(run / "layerwise/seed_0/id_calibration.npz")["surprise"].astype(float)
    values = np.load(run / "layerwise/seed_0/ood_photos.npz")["surprise"]
    scores = np.load(run / "scores/seed_0/ood_photos.npz")["nervecode"]
    for trace, row in zip(drawn[1::2], (5, scores.argmax()), strict=True):
        assert trace == pytest.approx((values[row] - inside.mean(0)) / inside.std(0), rel=1e-5)


@pytest.mark.parametrize("sample", [-1, 80])
def test_a_sample_that_is_not_there_is_refused(run: Path, sample: int) -> None:
    with pytest.raises(InputError, match=f"ID test has no {sample}, allowed: 0 to 79"):
        KINDS["trace"](run, sample=sample)


def test_codebooks_are_laid_out_by_layer_and_epoch(run: Path) -> None:
    columns = Saved(run).codebooks()
    layers = [f"learned:blocks.{i}" for i in range(3)]
    found = codebooks.table(columns, "entropy", layers, np.arange(1, 5))
    assert found == pytest.approx(np.tile(2 / np.arange(1, 5), (3, 1)))


def test_a_run_without_learned_codebooks_says_what_makes_them(run: Path) -> None:
    for path in run.glob("diagnostics/*"):
        path.unlink()
    with pytest.raises(ArtifactError, match=r"seed_0\.csv: is missing;.*`recipe: v0_1_1`"):
        KINDS["codebooks"](run)
