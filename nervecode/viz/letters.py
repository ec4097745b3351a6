"""Letters that the house font lacks: those of another font that is installed, or their numbers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import lru_cache

from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
from matplotlib.text import Text

FONT = "DejaVu Sans"  # comes with matplotlib, so that every machine draws the same


def complete(figure: Figure) -> None:
    r"""Have every text of a figure drawn in letters, and not in boxes.

    What no installed font has is spelled by its number, as Python does: `\u732b`.
    """
    for axes in figure.axes:
        for axis in (axes.xaxis, axes.yaxis):
            _complete_ticks(axis)
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        _complete(text)


@contextmanager
def quiet_fonts() -> Iterator[None]:
    """Within the block, fonts that have no bold letters are used without a word."""
    logger = logging.getLogger("matplotlib.font_manager")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def spelled(text: str) -> str:
    """A text in which the numbers of letters that no installed font has stand for them."""
    lacking = _lacking(text)
    known = frozenset[str]().union(*map(_letters, _others(lacking)))
    return "".join(_number(c) if c in lacking and c not in known else c for c in text)


def _complete(text: Text) -> None:
    lacking = _lacking(text.get_text())
    if lacking:
        text.set_text(spelled(text.get_text()))
        text.set_fontfamily([FONT, *(_family(path) for path in _others(lacking))])


def _complete_ticks(axis: Axis) -> None:
    """Names along an axis are written anew as the figure is drawn, so it has to know others."""
    names = [label.get_text() for label in axis.get_ticklabels()]
    if any(spelled(name) != name for name in names):
        axis.set_ticklabels([spelled(name) for name in names])


def _lacking(text: str) -> frozenset[str]:
    """The letters of a text that the house font lacks."""
    if text.isascii():
        return frozenset()
    return frozenset(text) - _letters(findfont(FONT)) - {"\n"}


@lru_cache
def _others(letters: frozenset[str]) -> tuple[str, ...]:
    """Files of installed fonts that have some of these letters, in the order of their names."""
    chosen, left = [], letters
    for path in _files() if left else ():
        if left & _letters(path):
            chosen.append(path)
            left -= _letters(path)
        if not left:
            break
    return tuple(chosen)


def _files() -> Iterable[str]:
    """One of each family, upright and regular where there is such."""
    families: dict[str, str] = {}
    for entry in sorted(fontManager.ttflist, key=lambda e: (e.name, e.style != "normal", e.fname)):
        if not entry.name.startswith((".", "Last Resort")):  # which draw boxes for all letters
            families.setdefault(entry.name, entry.fname)
    return families.values()


def _family(path: str) -> str:
    return next(entry.name for entry in fontManager.ttflist if entry.fname == path)


@lru_cache
def _letters(path: str) -> frozenset[str]:
    """The letters of a font; none of one that is made of pictures, which are not drawn."""
    font = get_font(path)
    return frozenset(map(chr, font.get_charmap())) if font.scalable else frozenset()


def _number(letter: str) -> str:
    return letter.encode("unicode_escape").decode()
