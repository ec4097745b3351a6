"""Every kind of plot against a picture that someone has looked at.

The pictures are small and without letters, so that they depend on no font and on no version of
FreeType: `test_plots.py` looks after the letters. After a change that is meant, this draws them
again, to be looked at: python -m tests.viz.baseline_pictures
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nervecode.viz import KINDS, layerwise, style

from .baseline_pictures import CASES, DRAWN, FOLDER, bare_picture, load, made_up_run

# Root mean square over all pixels and channels, of 255. The same code gives 0; an edge that another
# processor rounds to the next pixel costs some tenths, the mildest change of the tests below 1.08.
TOLERANCE = 0.8


def rms(one: np.ndarray, other: np.ndarray) -> float:
    """The root mean square difference of two pictures; infinite where their sizes differ."""
    if one.shape != other.shape:
        return float("inf")
    return float(np.sqrt(np.mean((one.astype(float) - other.astype(float)) ** 2)))


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    layers, sets = request.param
    return layers, sets, made_up_run(tmp_path_factory.mktemp("runs"), layers, sets)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_up_run(tmp_path_factory.mktemp("runs"), 5, 4)


@pytest.mark.slow
@pytest.mark.parametrize("kind", list(KINDS))
def test_it_looks_as_it_did(kind: str, case: tuple[int, int, Path]) -> None:
    layers, sets, run = case
    saved = load(FOLDER / f"{kind}_{layers}_{sets}.png")
    assert rms(bare_picture(kind, run), saved) < TOLERANCE


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["layerwise", "roc", "calibration"])
def test_letters_do_not_matter(kind: str, small_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(style.RC, "font.family", "DejaVu Serif")
    monkeypatch.setitem(style.RC, "text.hinting", "none")
    assert rms(bare_picture(kind, small_run), load(FOLDER / f"{kind}_5_4.png")) < TOLERANCE


def test_each_baseline_is_of_a_kind_and_all_are_small() -> None:
    files = list(FOLDER.iterdir())
    assert {file.stem for file in files} == {f"{k}_{layers}_{sets}" for k, layers, sets in DRAWN}
    assert sum(file.stat().st_size for file in files) < 1_000_000


def other_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "COLOURS", style.COLOURS[1:] + style.COLOURS[:1])


def other_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(style, "MARKERS", style.MARKERS[1:] + style.MARKERS[:1])


def no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(style.RC, "axes.grid", False)


def other_top(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layerwise, "TOP", 9.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("layerwise", other_colours),
        ("layerwise", other_markers),
        ("layerwise", no_grid),
        ("scores", other_colours),
        ("calibration", other_colours),
        ("training", no_grid),
        ("roc", no_grid),
        ("trace", other_colours),
        ("heat", other_top),
    ],
)
def test_a_change_of_looks_is_seen(
    kind: str,
    change: Callable[[pytest.MonkeyPatch], None],
    small_run: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change(monkeypatch)
    assert rms(bare_picture(kind, small_run), load(FOLDER / f"{kind}_5_4.png")) > TOLERANCE
