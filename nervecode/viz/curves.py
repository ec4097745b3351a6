"""Curves: ROC, score distributions, and training."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nervecode.viz.saved import Arrays, Saved
from nervecode.viz.style import ID_COLOUR, STYLES, colour, finish, new_figure, save, styled

ROC_METHODS = ("nervecode", "combo_id_zscore_equal", "energy", "mahalanobis", "knn", "msp")
COLUMNS = 4


def plot_roc(
    run: Path,
    *,
    seed: int | None = None,
    ood: Sequence[str] | None = None,
    output: Path | None = None,
    force: bool = False,
) -> Path:
    """ROC curves of chosen methods, one panel an OOD set; see `plot_layerwise` for the arguments.

    The dot on each curve is where 95 % of OOD are caught.
    """
    saved = Saved(run, seed=seed, ood=ood)
    path = saved.output("roc", output, force=force)
    inside = saved.scores("id_test")
    methods = [name for name in ROC_METHODS if name in inside]
    with styled():
        figure, panels = _panels(saved.ood, legend=True)
        for axes, name in zip(panels, saved.ood, strict=False):
            _draw_roc(axes, name, methods, inside, saved.scores(f"ood_{name}"))
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper")
        caption = (
            f"OOD is the positive class; the dot marks the threshold that catches 95 % of OOD. "
            f"Seed {saved.seed}; {len(next(iter(inside.values()))):,} ID test inputs, "
            f"n = OOD inputs."
        )
        title = f"{saved.meta['name']}: ROC of each OOD set"
        finish(figure, title=title, caption=caption, stamp=saved.stamp)
        return save(figure, path)


def plot_scores(
    run: Path,
    *,
    seed: int | None = None,
    ood: Sequence[str] | None = None,
    output: Path | None = None,
    force: bool = False,
) -> Path:
    """Score distributions of the default signal; see `plot_layerwise` for the arguments.

    The line is the threshold that accepts 95 % of ID calibration inputs.
    """
    saved = Saved(run, seed=seed, ood=ood)
    path = saved.output("scores", output, force=force)
    method = saved.meta["primary_method"]
    inside, calibration = saved.scores("id_test")[method], saved.scores("id_calibration")[method]
    threshold = float(np.quantile(calibration, 0.95))
    with styled():
        figure, panels = _panels(saved.ood, legend=True)
        for number, (axes, name) in enumerate(zip(panels, saved.ood, strict=False)):
            outside = saved.scores(f"ood_{name}")[method]
            _draw_scores(axes, name, inside, outside, threshold, colour(number))
        handles, _ = panels[0].get_legend_handles_labels()
        figure.legend(handles, ["ID test", "OOD", "95 % of ID"], loc="outside right upper")
        caption = (
            f"Score of {method}: higher is more surprising, arbitrary origin. The line accepts "
            f"95 % of {len(calibration):,} ID calibration inputs. Seed {saved.seed}; "
            f"{len(inside):,} ID test inputs, n = OOD inputs."
        )
        title = f"{saved.meta['name']}: score distributions"
        finish(figure, title=title, caption=caption, stamp=saved.stamp)
        return save(figure, path)


def plot_training(
    run: Path,
    *,
    seed: int | None = None,
    ood: Sequence[str] | None = None,
    output: Path | None = None,
    force: bool = False,
) -> Path:
    """Loss and accuracy over epochs, all seeds; see `plot_layerwise` for the arguments."""
    saved = Saved(run, seed=seed, ood=ood)
    path = saved.output("training", output, force=force)
    with styled():
        figure = new_figure(9, 3.8)
        panels = figure.subplots(1, 3)
        for number, one in enumerate(saved.meta["seeds"]):
            _draw_training(panels, saved.epochs(one), number, f"seed {one}")
        titles = ("Task loss (nats)", "Coding loss (nats)", "Training accuracy (%)")
        for axes, title in zip(panels, titles, strict=True):
            axes.set_title(title)
            axes.set_xlabel("epoch")
        panels[2].legend(loc="lower right")
        caption = f"ID training data: {saved.meta['split_sizes']['id_train']:,} inputs."
        title = f"{saved.meta['name']}: training"
        finish(figure, title=title, caption=caption, stamp=saved.stamp)
        return save(figure, path)


def _panels(names: Sequence[str], *, legend: bool) -> tuple[Figure, list[Axes]]:
    """One square panel a name, at most four in a row."""
    columns = min(COLUMNS, len(names))
    rows = -(-len(names) // columns)
    figure = new_figure(2.3 * columns + 2.2 * legend, 2.35 * rows + 1.1)
    grid = figure.subplots(rows, columns, squeeze=False)
    panels = list(grid.flat)
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    return figure, panels[: len(names)]


def _draw_roc(axes: Axes, name: str, methods: list[str], inside: Arrays, outside: Arrays) -> None:
    from sklearn.metrics import roc_curve

    for number, method in enumerate(methods):
        scores = np.r_[inside[method], outside[method]]
        truth = np.r_[np.zeros(len(inside[method])), np.ones(len(outside[method]))]
        flagged, caught, _ = roc_curve(truth, scores)
        tone = colour(number)
        style = STYLES[number % len(STYLES)]
        axes.plot(100 * flagged, 100 * caught, style, lw=1.4, color=tone, label=method)
        at = int(np.argmax(caught >= 0.95))
        axes.plot(100 * flagged[at], 100 * caught[at], "o", ms=3.5, color=tone)
    axes.plot([0, 100], [0, 100], ":", lw=0.8, color="#999999")
    axes.set_title(f"{name}, n = {len(outside[methods[0]]):,}", fontsize=8.5)
    axes.set_xlabel("ID flagged (%)")
    axes.set_ylabel("OOD caught (%)")


def _draw_scores(
    axes: Axes, name: str, inside: np.ndarray, outside: np.ndarray, threshold: float, tone: str
) -> None:
    both = np.concatenate([inside, outside, [threshold]])
    # Far sets lie orders of magnitude away: past the bulk the axis is logarithmic.
    bulk = max(1.0, float(np.quantile(np.abs(inside), 0.99)))
    low, high = (np.arcsinh(float(end) / bulk) for end in (both.min(), both.max()))
    edges = bulk * np.sinh(np.linspace(low, high + 1e-9, 41))
    for values, shade, label in ((inside, ID_COLOUR, "ID test"), (outside, tone, "OOD")):
        weights = np.full(len(values), 100 / len(values))
        axes.hist(values, edges.tolist(), weights=weights, color=shade, alpha=0.65, label=label)
    axes.axvline(threshold, color="black", lw=1, ls="--", label="95 % of ID")
    axes.set_xscale("symlog", linthresh=bulk, linscale=1.5)
    axes.set_xticks(_ticks(both.min(), both.max(), bulk))
    axes.minorticks_off()
    axes.set_title(f"{name}, n = {len(outside):,}", fontsize=8.5)
    axes.set_xlabel("score")
    axes.set_ylabel("inputs (%)")
    axes.tick_params(axis="x", labelsize=7)


def _ticks(low: float, high: float, bulk: float) -> list[float]:
    """Zero, and the powers of ten beyond the bulk, where the axis is logarithmic."""
    powers = [10.0**k for k in range(-3, 13) if 10.0**k > 1.5 * bulk]
    ends = [sign * power for power in powers for sign in (-1, 1)]
    return sorted([0.0, *[end for end in ends if low <= end <= high]])


def _draw_training(
    panels: Sequence[Axes], epochs: dict[str, np.ndarray], number: int, label: str
) -> None:
    columns = (epochs["task_loss"], epochs["coding_loss"], 100 * epochs["accuracy"])
    for axes, values in zip(panels, columns, strict=True):
        style = STYLES[number % len(STYLES)]
        axes.plot(epochs["epoch"], values, style, lw=1.3, color=colour(number), label=label)
