"""The house style, in one place: colours, fonts, stamps, captions, and how a figure is saved."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

matplotlib.use("Agg")

from matplotlib import style as matplotlib_style
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nervecode.errors import InputError, did_you_mean
from nervecode.files import replacing
from nervecode.viz.letters import FONT, complete, quiet_fonts, spelled

SUFFIXES = (".png", ".svg", ".pdf")

# Okabe and Ito's colours, told apart by every common kind of sight; ID is the dark one.
ID_COLOUR = "#333333"
ID_MARKER = "s"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#B8A800", "#8C510A")
MARKERS = ("o", "^", "D", "v", "P", "X", "*", "<", ">")
STYLES = ("-", "--", "-.", ":")

DEVIATIONS = "surprise (bits / deviation of ID)"
LINEAR = 2.0  # deviations up to which their axes are linear
CHARACTER = 0.065  # inches of a letter in the names of layers

RC: Any = {
    "font.family": FONT,
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "figure.dpi": 150,
    # The same run gives the same bytes: no random ids, and text stays text.
    "svg.hashsalt": "nervecode",
    "svg.fonttype": "none",
}


def colour(index: int) -> str:
    """The colour of the i-th set or method."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """The marker of the i-th set; nine against eight colours, so that a pair comes back late."""
    return MARKERS[index % len(MARKERS)]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure in inches; its parts are kept from overlapping."""
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def styled() -> Iterator[None]:
    """A context in which everything is drawn in the house style, whatever the user's own is."""
    with matplotlib_style.context(["default", RC]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+", UserWarning)  # before `save` finds another
        with quiet_fonts():
            yield


def finish(figure: Figure, *, title: str, caption: str, stamp: str) -> None:
    """Title above, caption below, and DEMO, TRANSFER or FAILED GATE across."""
    figure.suptitle(title, fontsize=12, fontweight="bold", x=0.01, ha="left")
    letters = int(figure.get_figwidth() * 16)
    wrapped = "\n".join(textwrap.wrap(spelled(caption), letters, break_on_hyphens=False))
    figure.supxlabel(wrapped, fontsize=8, color="#555555", x=0.01, ha="left")
    if stamp:
        figure.text(
            0.5, 0.5, stamp, fontsize=48, color="#B00020", alpha=0.25,
            ha="center", va="center", rotation=25, fontweight="bold",
        )  # fmt: skip


def name_layers(axes: Axes, layers: list[str], *, labels: bool = True, width: float = 0.0) -> None:
    """Layers along the lower axis; aslant where their names need more than `width` inches."""
    axes.set_xticks(range(len(layers)), layers if labels else [""] * len(layers))
    axes.set_xlim(-0.5, len(layers) - 0.5)
    if labels:
        aslant = (max(map(len, layers)) + 1) * CHARACTER * len(layers) > width
        axes.tick_params(axis="x", rotation=60 if aslant else 0, labelsize=8)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right" if aslant else "center")
            label.set_rotation_mode("anchor")


def deviations(drawn: Sequence[Axes]) -> None:
    """The same vertical axis of deviations of ID for all: linear up to 2, then logarithmic."""
    for axes in drawn:
        axes.set_yscale("symlog", linthresh=LINEAR, linscale=0.9)
        axes.autoscale_view(scalex=False)  # margins as wide on this scale as on a straight one
    low, high = np.min([axes.get_ylim() for axes in drawn]), np.max([a.get_ylim() for a in drawn])
    for axes in drawn:
        axes.set_ylim(low, high)
        name_deviations(axes.yaxis, max(high, -low))


def name_deviations(axis: Axis, farthest: float) -> None:
    """Round numbers along an axis of deviations, or along a colour bar."""
    parts = (1, 2, 5) if farthest < 50 else (1,)  # a wide axis has no room for more
    sizes = [part * 10.0**power for power in range(9) for part in parts]
    axis.set_major_locator(FixedLocator([*(-size for size in sizes[::-1]), 0, *sizes]))
    axis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}".replace("-", "−")))
    axis.set_minor_locator(NullLocator())


def save(figure: Figure, path: Path) -> Path:
    """Write PNG, SVG or PDF through a temporary name; the same figure gives the same bytes.

    An SVG keeps its text as it is, for the fonts of whoever looks at it.
    """
    check_output(path)
    if path.suffix != ".svg":
        complete(figure)
    dates = {".png": {"Software": None}, ".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    with replacing(path) as temporary:
        figure.savefig(temporary, format=path.suffix[1:], metadata=dates[path.suffix])
    return path


def check_output(path: Path) -> None:
    """Refuse a suffix that cannot be drawn.

    Raises:
        InputError: the suffix is not one of `SUFFIXES`.
    """
    if path.suffix not in SUFFIXES:
        hint = did_you_mean(path.suffix, SUFFIXES)
        raise InputError(f"output {path}: unknown suffix {path.suffix!r}; {hint}")
