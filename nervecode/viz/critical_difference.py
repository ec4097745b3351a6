"""Critical difference: average ranks of methods over settings, on a line (Demsar 2006)."""

from __future__ import annotations

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from nervecode.lab.results.statistics import Ranks
from nervecode.viz.style import ID_COLOUR, colour, finish, new_figure, save, styled

ROW = 0.24  # inches a name
BAR = 0.12  # inches a bar


def plot_critical_difference(
    ranks: Ranks, path: Path, *, highlight: str, measure: str, stamp: str = ""
) -> Path:
    """Draw average ranks; bars join methods that the Nemenyi test does not tell apart.

    Args:
        ranks: what `nervecode.lab.results.statistics.ranks` found.
        path: `.png`, `.svg` or `.pdf`.
        highlight: the method to draw in colour.
        measure: what is ranked, for the caption.
        stamp: DEMO, TRANSFER or FAILED GATE, drawn across.
    """
    caption = (
        f"{measure}, over {ranks.num_settings} settings; bars join methods that the Nemenyi test "
        "does not tell apart at 5 %."
    )
    names, groups = list(ranks.average), ranks.groups()
    half = (len(names) + 1) // 2
    bars, height = BAR * (len(groups) + 1), ROW * half
    with styled():
        figure = new_figure(9.0, 1.6 + bars + height)
        axes = figure.subplots()
        axes.set_xlim(0.5, len(names) + 0.5)
        axes.set_ylim(-(bars + height), 0.55)
        axes.xaxis.tick_top()
        axes.set_yticks([])
        axes.grid(False)
        axes.spines[["left", "bottom"]].set_visible(False)
        axes.spines["top"].set_visible(True)
        axes.spines["top"].set_position(("data", 0.0))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        _width(axes, ranks)
        for row, (best, worst) in enumerate(groups, start=1):
            ends = [ranks.average[best] - 0.06, ranks.average[worst] + 0.06]
            axes.plot(ends, [-BAR * row] * 2, color=ID_COLOUR, linewidth=3, solid_capstyle="butt")
        for index, name in enumerate(names):
            left = index < half
            depth = bars + ROW * ((index if left else len(names) - 1 - index) + 0.5)
            _name(axes, name, ranks.average[name], -depth, left=left, bold=name == highlight)
        title = "Average rank over settings; 1 is the best"
        finish(figure, title=title, caption=caption, stamp=stamp)
        return save(figure, path)


def _width(axes: Axes, ranks: Ranks) -> None:
    """The critical difference itself, as a rule above the line."""
    start, end = 1.0, 1.0 + ranks.critical_difference
    axes.plot([start, end], [0.3, 0.3], color=ID_COLOUR, linewidth=1.2, marker="|")
    text = f"critical difference {ranks.critical_difference:.2f}"
    axes.text(end + 0.15, 0.3, text, va="center", fontsize=8)


def _name(axes: Axes, name: str, rank: float, y: float, *, left: bool, bold: bool) -> None:
    tint = colour(0) if bold else ID_COLOUR
    edge = axes.get_xlim()[0 if left else 1]
    axes.plot([rank, rank, edge], [0, y, y], color=tint, linewidth=1.6 if bold else 0.7)
    axes.annotate(
        f"{name}  {rank:.2f}" if left else f"{rank:.2f}  {name}",
        (edge, y), xytext=(-4 if left else 4, 0), textcoords="offset points",
        ha="right" if left else "left", va="center", fontsize=8, color=tint,
        fontweight="bold" if bold else "normal", annotation_clip=False,
    )  # fmt: skip
