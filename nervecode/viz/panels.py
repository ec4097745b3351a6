"""Panels: a figure of small plots, one a name, whose labels stand at the outer edges alone."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nervecode.viz.style import new_figure

COLUMNS = 4


def panels(
    names: Sequence[str], *, width: float = 2.2, height: float = 2.3, legend: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel a name, in rows of about the same length.

    Args:
        names: what the panels are of.
        width: inches of a panel.
        height: inches of a panel.
        legend: inches for a legend beside them.
    """
    rows = -(-len(names) // COLUMNS)
    columns = -(-len(names) // rows)
    figure = new_figure(max(5.0, width * columns + 0.4 + legend), height * rows + 1.3)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[len(names) :]:
        axes.set_visible(False)
    return figure, grid[: len(names)]


def label_panels(grid: Sequence[Axes], *, y: str, x: str = "") -> None:
    """Name the vertical axis in the first column, and the horizontal one where none is below."""
    first = list(grid[:: _columns(grid)])
    for axes in first:
        axes.set_ylabel(y)
    for axes in lowest(grid):
        axes.set_xlabel(x)
    first[0].figure.align_ylabels(first)


def lowest(grid: Sequence[Axes]) -> list[Axes]:
    """The panels that have none below."""
    return list(grid[-_columns(grid) :])


def _columns(grid: Sequence[Axes]) -> int:
    spec = grid[0].get_gridspec()
    assert spec is not None
    return int(spec.ncols)
