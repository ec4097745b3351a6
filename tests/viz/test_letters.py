"""Letters that the house font lacks: another font has them, or their numbers stand for them."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from matplotlib.font_manager import findfont
from matplotlib.text import Text
from PIL import Image

from nervecode.viz import letters
from nervecode.viz.letters import FONT, complete, spelled
from nervecode.viz.style import finish, new_figure, save, styled

STIX = findfont("STIXGeneral")  # comes with matplotlib


@pytest.fixture
def stix(monkeypatch: pytest.MonkeyPatch) -> str:
    """A letter that STIX alone has, of two fonts that are installed."""
    monkeypatch.setattr(letters, "_files", lambda: [findfont(FONT), STIX])
    letters._others.cache_clear()
    only = letters._letters(STIX) - letters._letters(findfont(FONT))
    yield min(letter for letter in only if letter.isprintable())
    letters._others.cache_clear()


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No other font is installed."""
    monkeypatch.setattr(letters, "_files", lambda: [])
    letters._others.cache_clear()
    yield
    letters._others.cache_clear()


def test_letters_without_a_font_are_spelled(alone: None) -> None:
    assert spelled("caf\u00e9 \u0645\n\u732b") == "caf\u00e9 \u0645\n\\u732b"
    assert spelled("\U0001faa8 rock") == "\\U0001faa8 rock"
    assert spelled("plain") == "plain"


def test_another_font_draws_what_it_has(stix: str) -> None:
    figure = new_figure(2, 2)
    text = figure.text(0.5, 0.5, f"a{stix}\u732b")
    plain = figure.text(0.5, 0.2, "a\u00e9")
    complete(figure)
    assert text.get_text() == f"a{stix}\\u732b"
    assert text.get_fontfamily() == [FONT, "STIXGeneral"]
    assert plain.get_fontfamily() != text.get_fontfamily()


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_names_along_axes_titles_and_captions(alone: None, suffix: str, tmp_path: Path) -> None:
    warnings.simplefilter("error")
    with styled():
        figure = new_figure(4, 4)
        axes = figure.subplots()
        axes.set_xticks([0, 1], ["\u732b", "dog"], rotation=35)
        axes.plot([0, 1], label="\u72ac")
        axes.legend()
        finish(figure, title="x: \u732b", caption="\u732b " * 30, stamp="")
        save(figure, tmp_path / f"x{suffix}")
    texts = [text.get_text() for text in figure.findobj(Text)]
    if suffix == ".svg":
        assert "\u732b" in texts
        return
    assert "\\u732b" in texts and "dog" in texts and "\\u72ac" in texts
    assert not {"\u732b", "\u72ac"} & set("".join(texts))
    assert axes.get_xticklabels()[0].get_rotation() == 35


def test_boxes_are_not_drawn(alone: None, tmp_path: Path) -> None:
    """The picture of a spelled name is that of its spelling."""
    drawn = []
    for name in ("\u732b", "\\u732b"):
        with styled():
            figure = new_figure(2, 1)
            figure.text(0.1, 0.5, name)
            save(figure, tmp_path / "x.png")
        with Image.open(tmp_path / "x.png") as picture:
            drawn.append(np.asarray(picture))
    assert np.array_equal(*drawn)
