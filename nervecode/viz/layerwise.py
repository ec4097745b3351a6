"""Layerwise: which layers were surprised, and by what.

`python -m nervecode.viz.layerwise RUN --seed 0 --ood a,b --output FILE`
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import SymLogNorm
from matplotlib.figure import Figure

from nervecode.errors import NervecodeError
from nervecode.lab.results.statistics import auroc
from nervecode.viz.picture import Picture, plot
from nervecode.viz.saved import Saved
from nervecode.viz.style import (
    DEVIATIONS,
    LINEAR,
    deviations,
    name_deviations,
    name_layers,
    new_figure,
)

HEAT_ROWS = 120  # rows of the heat map: more samples are averaged in bins of equal size
TOP = 10.0  # deviations that the heat map's colours reach at least
LEGEND_COLUMNS = 4
VIOLIN = 40  # bins of a distribution, between its 1st and 99th percentile

Looks = dict[str, tuple[str, str]]  # set -> colour and marker


@plot("layerwise")
def plot_layerwise(saved: Saved) -> Picture:
    """Distributions and quartiles per layer, AUROC per layer, a heat map of inputs by layers."""
    layers, sets, scale = _deviations(saved)
    return Picture(
        _draw(layers, sets, {name: saved.look(name) for name in sets}),
        "surprise layer by layer",
        _caption(
            saved,
            sets,
            scale,
            "Shapes: distributions, 1st to 99th percentile; whiskers: quartiles.",
        ),
    )


@plot("heat")
def plot_heat(saved: Saved) -> Picture:
    """The heat map alone, with more rows: every input by every layer, ordered by surprise."""
    layers, sets, scale = _deviations(saved)
    width = max(6.0, 3.0 + 0.42 * len(layers))
    figure = new_figure(width, max(5.0, 2.0 + 0.7 * len(sets)))
    _draw_heat(figure, figure.subplots(), layers, sets, rows=4 * HEAT_ROWS, width=width - 2.0)
    what = "Each line is an input, or the mean of neighbours where there are many."
    return Picture(figure, "surprise of every input", _caption(saved, sets, scale, what))


def _deviations(saved: Saved) -> tuple[list[str], dict[str, np.ndarray], str]:
    """Layers, (N, L) surprise of each set in deviations of ID, and what a deviation is in bits."""
    calibration = saved.layerwise("id_calibration")
    spread = saved.standard[1]
    splits = {"ID test": "id_test"} | {name: f"ood_{name}" for name in saved.ood}
    sets = {name: saved.deviations(split) for name, split in splits.items()}
    scale = (
        f"standardised on {len(calibration['surprise']):,} ID calibration inputs (1 = one "
        f"deviation; at the first layer {spread[0]:.3g} bits, at the last {spread[-1]:.3g})"
    )
    return [str(name) for name in calibration["layer_names"]], sets, scale


def _caption(saved: Saved, sets: dict[str, np.ndarray], scale: str, what: str) -> str:
    sizes = ", ".join(f"{name} {len(values):,}" for name, values in sets.items())
    return f"Surprise of a layer in bits, {scale}. {what} Seed {saved.seed}. Inputs: {sizes}."


def _draw(layers: list[str], sets: dict[str, np.ndarray], looks: Looks) -> Figure:
    width = max(10.0, 5.2 + 0.42 * len(layers))
    lines = -(-len(sets) // LEGEND_COLUMNS)
    figure = new_figure(width, 6.8 + 0.18 * lines)
    grid = figure.add_gridspec(3, 2, width_ratios=[1.6, 1], height_ratios=[1, 0.06 * lines, 1])
    medians, heat = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    between, alone = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[2, 0])
    _draw_medians(medians, layers, sets, looks, width=0.45 * width)
    between.axis("off")
    between.legend(*medians.get_legend_handles_labels(), loc="center", ncols=LEGEND_COLUMNS,
                   handletextpad=0.3, columnspacing=1.0, borderaxespad=0)  # fmt: skip
    _draw_auroc(alone, layers, sets, looks, width=0.45 * width)
    _draw_heat(figure, heat, layers, sets, width=0.28 * width)
    return figure


def _draw_medians(
    axes: Axes,
    layers: list[str],
    sets: dict[str, np.ndarray],
    looks: Looks,
    *,
    width: float = 0.0,
) -> None:
    places = np.arange(len(layers))
    step = 0.8 / len(sets)
    size, line = (3.5, 1.1) if len(layers) * len(sets) < 100 else (2.6, 0.8)
    for number, (name, values) in enumerate(sets.items()):
        low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
        shift = places + (number - (len(sets) - 1) / 2) * step
        errors = np.stack([middle - low, high - middle])
        tone, mark = looks[name]
        for place, column in zip(shift, values.T, strict=True):
            heights, widths = violin(column)
            axes.fill_betweenx(heights, place - step / 2 * widths, place + step / 2 * widths,
                               color=tone, alpha=0.3, lw=0)  # fmt: skip
        axes.errorbar(shift, middle, errors, fmt=mark, ms=size, lw=line, color=tone, label=name)
    deviations([axes])
    axes.set_ylabel(DEVIATIONS)
    axes.set_title("Distribution, median and quartiles of each layer")
    name_layers(axes, layers, width=width)


def violin(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N,) values -> (VIOLIN,) heights and widths of their distribution, the widest of width 1.

    Bins are equal in arcsinh, about the scale on which they are drawn, and lightly smoothed.
    """
    low, high = np.arcsinh(np.percentile(values, [1, 99]))
    edges = np.linspace(low, high + 1e-6, VIOLIN + 1)
    counts = np.histogram(np.arcsinh(values), edges)[0]
    smooth = np.convolve(counts, [1, 2, 3, 2, 1], mode="same")
    return np.sinh((edges[:-1] + edges[1:]) / 2), smooth / max(smooth.max(), 1)


def _draw_auroc(
    axes: Axes,
    layers: list[str],
    sets: dict[str, np.ndarray],
    looks: Looks,
    *,
    width: float = 0.0,
) -> None:
    inside = sets["ID test"]
    lowest = 90.0
    for name, values in list(sets.items())[1:]:
        tone, mark = looks[name]
        aurocs = [100 * auroc(*pair) for pair in zip(inside.T, values.T, strict=True)]
        axes.plot(aurocs, f"{mark}-", ms=3.5, lw=1.1, color=tone, label=name)
        lowest = min(lowest, *aurocs)
    if lowest < 55:
        axes.axhline(50, color="#999999", lw=0.8, ls=":")  # chance
    axes.set_ylim(lowest - 0.06 * (100 - lowest), 100 + 0.04 * (100 - lowest))
    axes.set_ylabel("AUROC x100 of the layer alone")
    axes.set_title("How well each layer alone tells OOD from ID")
    name_layers(axes, layers, width=width)


def _draw_heat(
    figure: Figure,
    axes: Axes,
    layers: list[str],
    sets: dict[str, np.ndarray],
    *,
    rows: int = HEAT_ROWS,
    width: float = 0.0,
) -> None:
    parts, edges, names = [], [0], []
    for name, values in sets.items():
        ordered = values[np.argsort(values.mean(1), kind="stable")]
        parts.append(_binned(ordered, rows // len(sets) + 4))
        edges.append(edges[-1] + len(parts[-1]))
        names.append(name)
    values = np.concatenate(parts)
    top = max(TOP, float(np.percentile(values, 99)))
    image = axes.imshow(
        values, aspect="auto", cmap="magma", interpolation="nearest",
        norm=SymLogNorm(LINEAR, vmin=-LINEAR, vmax=top, base=10),
    )  # fmt: skip
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="white", lw=1.5)
    middles = [(low + high - 1) / 2 for low, high in pairwise(edges)]
    axes.set_yticks(middles, names)
    axes.grid(visible=False)
    axes.set_title("Every input, in order")
    name_layers(axes, layers, width=width)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.03, aspect=35, extend="both")
    name_deviations(bar.ax.yaxis, top)
    bar.set_label(DEVIATIONS)


def _binned(ordered: np.ndarray, rows: int) -> np.ndarray:
    """(N, L) -> (at most `rows`, L): means of neighbours in bins of equal size."""
    if len(ordered) <= rows:
        return ordered
    return np.stack([part.mean(0) for part in np.array_split(ordered, rows)])


def main(arguments: Sequence[str] | None = None) -> int:
    """The command `python -m nervecode.viz.layerwise`; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m nervecode.viz.layerwise", description=__doc__)
    parser.add_argument("run", type=Path, help="a run directory")
    parser.add_argument("--seed", type=int, help="default: the first seed")
    parser.add_argument("--ood", help="OOD sets, such as a,b; default: all")
    parser.add_argument("--output", type=Path, help="FILE.png, .svg or .pdf")
    parser.add_argument("--force", action="store_true", help="replace an output that exists")
    given = parser.parse_args(arguments)
    try:
        chosen = given.ood.split(",") if given.ood else None
        path = plot_layerwise(
            given.run, seed=given.seed, ood=chosen, output=given.output, force=given.force
        )
    except NervecodeError as error:
        sys.stderr.write(f"Error: {error}\n")
        return error.exit_status
    sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
