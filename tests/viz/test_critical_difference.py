"""The critical-difference picture: for few and many methods nothing is cut and nothing overlaps."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nervecode.lab.results.statistics import Ranks, ranks
from nervecode.viz import critical_difference
from nervecode.viz.critical_difference import plot_critical_difference
from nervecode.viz.style import new_figure, save, styled

from .test_plots import _text_boxes


def made_up(methods: int, settings: int, *, spread: float = 1.0) -> Ranks:
    random = np.random.default_rng(methods)
    names = ["nervecode", *[f"a_long_method_{i}" for i in range(methods - 1)]]
    return ranks({n: random.normal(-spread * i, 1, settings) for i, n in enumerate(names)})


@pytest.mark.slow
@pytest.mark.parametrize("settings", [2, 16])
@pytest.mark.parametrize("methods", [3, 4, 10, 23, 30])
@pytest.mark.parametrize("spread", [0.0, 1.0])
def test_no_text_is_cut_or_overlaps(
    methods: int, settings: int, spread: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[Figure] = []
    monkeypatch.setattr(
        critical_difference, "save", lambda figure, path: kept.append(figure) or path
    )
    found = made_up(methods, settings, spread=spread)
    plot_critical_difference(found, tmp_path / "x.png", highlight="nervecode", measure="A measure")
    FigureCanvasAgg(kept[0])
    boxes = _text_boxes(kept[0])
    assert {name for name, _ in boxes} >= {f"{r:.2f}  {n}" for n, r in _right(found)}
    width, height = kept[0].canvas.get_width_height()
    for index, (text, box) in enumerate(boxes):
        assert box.x0 >= -1 and box.y0 >= -1, f"{text!r} is cut"
        assert box.x1 <= width + 1 and box.y1 <= height + 1, f"{text!r} is cut"
        for other_text, other in boxes[index + 1 :]:
            slack = box.padded(-1.5)
            assert not slack.overlaps(other.padded(-1.5)), f"{text!r} lies on {other_text!r}"


def _right(found: Ranks) -> list[tuple[str, float]]:
    """The worse half of the methods, whose names stand on the right."""
    return list(found.average.items())[(len(found.average) + 1) // 2 :]


def test_letters_that_the_font_lacks_bring_no_warnings(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with styled():
            figure = new_figure(2, 2)
            figure.suptitle("\u5b57\u4f53")
            assert save(figure, tmp_path / "x.png").is_file()


@pytest.mark.parametrize("suffix", [".png", ".svg"])
def test_the_same_ranks_give_the_same_bytes(suffix: str, tmp_path: Path) -> None:
    found = made_up(8, 5)
    first, second = (
        plot_critical_difference(
            found, tmp_path / f"{i}{suffix}", highlight="nervecode", measure="x"
        )
        for i in range(2)
    )
    assert first.read_bytes() == second.read_bytes()
