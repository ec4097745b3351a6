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
from matplotlib.figure import Figure

from nervecode.errors import NervecodeError
from nervecode.viz.saved import Saved
from nervecode.viz.style import ID_COLOUR, colour, finish, new_figure, save, styled

HEAT_ROWS = 120  # rows of the heat map: more samples are averaged in bins of equal size
CLIP = 6.0  # deviations at which the heat map's colour saturates


def plot_layerwise(
    run: Path,
    *,
    seed: int | None = None,
    ood: Sequence[str] | None = None,
    output: Path | None = None,
    force: bool = False,
) -> Path:
    """Medians with quartiles per layer, AUROC per layer, and a heat map of samples by layers.

    Args:
        run: the run directory.
        seed: None takes the first.
        ood: OOD sets; None takes all of the run.
        output: `.png`, `.svg` or `.pdf`; None writes into the run's `plots/`.
        force: replace an output that exists.

    Returns:
        The path of the picture.

    Raises:
        InputError: an unknown seed, OOD set or suffix, or an output that exists.
        ArtifactError: a file of the run is missing or damaged.
    """
    saved = Saved(run, seed=seed, ood=ood)
    path = saved.output("layerwise", output, force=force)
    calibration = saved.layerwise("id_calibration")
    layers = [str(name) for name in calibration["layer_names"]]
    sets = {"ID test": saved.layerwise("id_test")["surprise"]}
    sets |= {name: saved.layerwise(f"ood_{name}")["surprise"] for name in saved.ood}
    centre, spread = _standard(calibration["surprise"])
    standard = {name: (values - centre) / spread for name, values in sets.items()}
    with styled():
        figure = _draw(layers, standard)
        sizes = ", ".join(f"{name} {len(values):,}" for name, values in sets.items())
        caption = (
            f"Surprise of a layer in bits, standardised on {len(calibration['surprise']):,} ID "
            f"calibration inputs (1 = one deviation; at the first layer {spread[0]:.3g} bits, at "
            f"the last {spread[-1]:.3g}). Whiskers: quartiles. Seed {saved.seed}. Inputs: {sizes}."
        )
        title = f"{saved.meta['name']}: surprise layer by layer"
        finish(figure, title=title, caption=caption, stamp=saved.stamp)
        return save(figure, path)


def _standard(surprise: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(L,) mean and deviation; a layer that is constant on ID data is not scaled."""
    deviation = surprise.std(0, dtype=np.float64)
    return surprise.mean(0, dtype=np.float64), np.where(deviation > 0, deviation, 1.0)


def _draw(layers: list[str], sets: dict[str, np.ndarray]) -> Figure:
    width = max(9.0, 4.6 + 0.42 * len(layers))
    figure = new_figure(width, 7.4 + 0.14 * len(sets))
    grid = figure.add_gridspec(2, 2, width_ratios=[1.55, 1], height_ratios=[1, 1.1])
    medians, heat = figure.add_subplot(grid[0, 0]), figure.add_subplot(grid[:, 1])
    auroc = figure.add_subplot(grid[1, 0])
    _draw_medians(medians, layers, sets)
    _draw_auroc(auroc, layers, sets)
    _draw_heat(figure, heat, layers, sets)
    return figure


def _draw_medians(axes: Axes, layers: list[str], sets: dict[str, np.ndarray]) -> None:
    places = np.arange(len(layers))
    step = 0.7 / len(sets)
    for number, (name, values) in enumerate(sets.items()):
        low, middle, high = np.percentile(values, [25, 50, 75], axis=0)
        shift = places + (number - (len(sets) - 1) / 2) * step
        errors = np.stack([middle - low, high - middle])
        tone = ID_COLOUR if number == 0 else colour(number - 1)
        axes.errorbar(shift, middle, errors, fmt="s" if number == 0 else "o", ms=3.5, lw=1.1,
                      color=tone, label=name)  # fmt: skip
    axes.set_yscale("symlog", linthresh=2, linscale=0.9)
    axes.set_ylabel("surprise (deviations of ID)")
    axes.set_title("Median and quartiles of each layer")
    _name_layers(axes, layers, labels=False)
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.04), ncols=min(4, len(sets)),
                handletextpad=0.3, columnspacing=1.0)  # fmt: skip


def _draw_auroc(axes: Axes, layers: list[str], sets: dict[str, np.ndarray]) -> None:
    from sklearn.metrics import roc_auc_score

    inside = sets["ID test"]
    for number, (name, values) in enumerate(list(sets.items())[1:]):
        truth = np.r_[np.zeros(len(inside)), np.ones(len(values))]
        both = np.concatenate([inside, values])
        aurocs = [100 * roc_auc_score(truth, both[:, layer]) for layer in range(len(layers))]
        axes.plot(aurocs, "o-", ms=3.5, lw=1.1, color=colour(number), label=name)
    axes.axhline(50, color="#999999", lw=0.8, ls=":")
    axes.set_ylabel("AUROC x100 of the layer alone")
    axes.set_title("How well each layer alone tells OOD from ID")
    _name_layers(axes, layers, labels=True)


def _draw_heat(figure: Figure, axes: Axes, layers: list[str], sets: dict[str, np.ndarray]) -> None:
    rows, edges, names = [], [0], []
    for name, values in sets.items():
        ordered = values[np.argsort(values.mean(1), kind="stable")]
        rows.append(_binned(ordered, HEAT_ROWS // len(sets) + 4))
        edges.append(edges[-1] + len(rows[-1]))
        names.append(name)
    image = axes.imshow(
        np.concatenate(rows), aspect="auto", cmap="cividis", vmin=-2, vmax=CLIP,
        interpolation="nearest",
    )  # fmt: skip
    for edge in edges[1:-1]:
        axes.axhline(edge - 0.5, color="white", lw=1.5)
    middles = [(low + high - 1) / 2 for low, high in pairwise(edges)]
    axes.set_yticks(middles, names)
    axes.grid(visible=False)
    axes.set_title("Every input, in order")
    _name_layers(axes, layers, labels=True)
    bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, pad=0.02, extend="both")
    bar.set_label("surprise (deviations of ID)")


def _binned(ordered: np.ndarray, rows: int) -> np.ndarray:
    """(N, L) -> (at most `rows`, L): means of neighbours in bins of equal size."""
    if len(ordered) <= rows:
        return ordered
    return np.stack([part.mean(0) for part in np.array_split(ordered, rows)])


def _name_layers(axes: Axes, layers: list[str], *, labels: bool) -> None:
    axes.set_xticks(np.arange(len(layers)), layers if labels else [""] * len(layers))
    axes.set_xlim(-0.5, len(layers) - 0.5)
    if labels:
        long = len(layers) > 5 or max(map(len, layers)) > 9
        axes.tick_params(axis="x", rotation=60 if long else 0, labelsize=8)
        for label in axes.get_xticklabels():
            label.set_horizontalalignment("right" if long else "center")
            label.set_rotation_mode("anchor")


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
