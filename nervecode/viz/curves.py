"""Curves: ROC, score distributions, and training."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Patch
from matplotlib.scale import SymmetricalLogTransform

from nervecode.viz.panels import label_panels, panels
from nervecode.viz.picture import Picture, plot
from nervecode.viz.saved import Arrays, Saved
from nervecode.viz.style import ID_COLOUR, STYLES, colour, new_figure

ROC_METHODS = ("nervecode", "combo_id_zscore_equal", "energy", "mahalanobis", "knn", "msp")
BINS = 40  # of a histogram of scores
LINEAR_DECADES = 1.5  # as wide as so many powers of ten is the part of an axis that is straight
SHARES = (0, 1, 5, 20, 50, 100)  # percent of ID that the horizontal axis of a ROC curve names


@plot("roc")
def plot_roc(saved: Saved) -> Picture:
    """ROC curves of chosen methods, one panel an OOD set.

    The dot on each curve is where 95 % of OOD are caught.
    """
    inside = saved.scores("id_test")
    methods = [name for name in ROC_METHODS if name in inside]
    figure, grid = panels(saved.ood, legend=2.1)
    for axes, name in zip(grid, saved.ood, strict=False):
        _draw_roc(axes, name, methods, inside, saved.scores(f"ood_{name}"))
    label_panels(grid, x="ID flagged (%)", y="OOD caught (%)")
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    caption = (
        "OOD is the positive class; the dot marks the threshold that catches 95 % of OOD. The "
        "horizontal axis is a square root, since few false alarms matter most; dotted is chance. "
        f"Seed {saved.seed}; {len(next(iter(inside.values()))):,} ID test inputs, "
        f"n = OOD inputs."
    )
    return Picture(figure, "ROC of each OOD set", caption)


@plot("scores")
def plot_scores(saved: Saved) -> Picture:
    """Score distributions of the default signal.

    The line is the threshold that accepts 95 % of ID calibration inputs.
    """
    method = saved.meta["primary_method"]
    inside, calibration = saved.scores("id_test")[method], saved.scores("id_calibration")[method]
    threshold = float(np.quantile(calibration, 0.95))
    figure, grid = panels(saved.ood, legend=1.1)
    for axes, name in zip(grid, saved.ood, strict=False):
        outside = saved.scores(f"ood_{name}")[method]
        _draw_scores(axes, name, inside, outside, threshold=threshold, tone=saved.look(name)[0])
    label_panels(grid, x=f"score ({saved.meta['unit']})", y="inputs (%)")
    handles, labels = grid[0].get_legend_handles_labels()
    handles[labels.index("OOD")] = Patch(facecolor="none", edgecolor="black", lw=0.8)
    figure.legend(handles, labels, loc="outside right upper")
    caption = (
        f"Score of {method}: higher is more surprising, arbitrary origin. The line accepts "
        f"95 % of {len(calibration):,} ID calibration inputs. Bars are equally wide on this axis; "
        f"each set, outlined, has the colour that it has in the other pictures. Seed {saved.seed}; "
        f"{len(inside):,} ID test inputs, n = OOD inputs."
    )
    return Picture(figure, "score distributions", caption)


@plot("training")
def plot_training(saved: Saved) -> Picture:
    """Loss and accuracy over epochs, all seeds."""
    figure = new_figure(9, 3.8)
    columns = figure.subplots(1, 3)
    for number, seed in enumerate(saved.meta["seeds"]):
        _draw_training(columns, saved.epochs(seed), number, f"seed {seed}")
    titles = ("Task loss (nats)", "Coding loss (nats)", "Training accuracy (%)")
    for axes, title in zip(columns, titles, strict=True):
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    for axes in columns[:2]:
        if all(np.all(line.get_ydata() > 0) for line in axes.lines):
            axes.set_yscale("log")  # the end of training matters as much as its beginning
    columns[2].legend(loc="lower right")
    caption = (
        f"A line for each seed. ID training data: {saved.meta['split_sizes']['id_train']:,} inputs."
    )
    return Picture(figure, "training", caption, seeds="every seed")


def _draw_roc(axes: Axes, name: str, methods: list[str], inside: Arrays, outside: Arrays) -> None:
    for number, method in enumerate(methods):
        flagged, caught = roc_curve(inside[method], outside[method])
        tone = colour(number)
        style = STYLES[number % len(STYLES)]
        axes.plot(100 * flagged, 100 * caught, style, lw=1.4, color=tone, label=method)
        at = int(np.argmax(caught >= 0.95))
        axes.plot(100 * flagged[at], 100 * caught[at], "o", ms=3.5, color=tone, clip_on=False)
    chance = np.linspace(0, 100, 101)
    axes.plot(chance, chance, ":", lw=0.8, color="#999999")
    axes.set_xscale("function", functions=(_root, _square))
    axes.set_xticks(SHARES, [str(share) for share in SHARES])
    axes.set_xlim(0, 100)
    axes.set_ylim(0, 101)
    axes.set_title(f"{name}, n = {len(outside[methods[0]]):,}", fontsize=8.5)


def _root(values: np.ndarray) -> np.ndarray:
    """The square root, continued below 0, where a scale is asked for its margins."""
    return np.asarray(np.sign(values) * np.sqrt(np.abs(values)))


def _square(values: np.ndarray) -> np.ndarray:
    return np.asarray(np.sign(values) * np.square(values))


def roc_curve(inside: np.ndarray, outside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(n,) ID and (m,) OOD scores -> the fractions flagged and caught at every threshold.

    From no input at all to every one. scikit-learn has this too, but takes seconds to load.
    """
    thresholds = np.unique(np.concatenate([inside, outside]))[::-1]
    flagged, caught = (
        1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores)
        for scores in (inside, outside)
    )
    return np.r_[0.0, flagged], np.r_[0.0, caught]


def _draw_scores(
    axes: Axes,
    name: str,
    inside: np.ndarray,
    outside: np.ndarray,
    *,
    threshold: float,
    tone: str,
) -> None:
    both = np.concatenate([inside, outside, [threshold]])
    # Far sets lie orders of magnitude away: past the bulk the axis is logarithmic.
    bulk = max(1.0, float(np.quantile(np.abs(inside), 0.99)))
    edges = equal_bins(float(both.min()), float(both.max()), bulk)
    for values, shade, label in ((inside, ID_COLOUR, "ID test"), (outside, tone, "OOD")):
        weights = np.full(len(values), 100 / len(values))
        # In grey the two shades are alike: an outline tells them apart.
        outline = "none" if shade == ID_COLOUR else "black"
        axes.hist(values, edges.tolist(), weights=weights, color=shade, alpha=0.65, label=label,
                  histtype="stepfilled", edgecolor=outline, lw=0.8)  # fmt: skip
    axes.axvline(threshold, color="black", lw=1, ls="--", label="95 % of ID")
    axes.set_xscale("symlog", linthresh=bulk, linscale=LINEAR_DECADES)
    axes.set_xlim(edges[0], edges[-1])
    ticks = _ticks(both.min(), both.max(), bulk)
    words = [f"{t:,.0f}" if 1 <= abs(t) < 1e5 else f"{t:.0g}" for t in ticks]
    axes.set_xticks(ticks, [word.replace("-", "−") for word in words])
    axes.minorticks_off()
    axes.set_title(f"{name}, n = {len(outside):,}", fontsize=8.5)
    axes.tick_params(axis="x", labelsize=7)


def equal_bins(low: float, high: float, bulk: float) -> np.ndarray:
    """(BINS + 1,) edges from low to high that are equally far apart where they are drawn."""
    scale = SymmetricalLogTransform(10, bulk, LINEAR_DECADES)
    first, last = np.asarray(scale.transform(np.array([low, high])))
    edges = np.asarray(scale.inverted().transform(np.linspace(first, last, BINS + 1)))
    edges[[0, -1]] = low, np.nextafter(high, np.inf)  # no input is lost by rounding
    return edges


def _ticks(low: float, high: float, bulk: float) -> list[float]:
    """Zero, a round number within the bulk, and powers of ten beyond: there the axis is a log."""
    inner = max(n * 10.0**k for k in range(-3, 13) for n in (1, 2, 5) if n * 10.0**k < 0.7 * bulk)
    powers = [inner, *[10.0**k for k in range(-3, 13) if 10.0**k > 1.5 * bulk]]
    ends = [sign * power for power in powers for sign in (-1, 1)]
    return sorted([0.0, *[end for end in ends if low <= end <= high]])


def _draw_training(
    panels: Sequence[Axes], epochs: dict[str, np.ndarray], number: int, label: str
) -> None:
    columns = (epochs["task_loss"], epochs["coding_loss"], 100 * epochs["accuracy"])
    for axes, values in zip(panels, columns, strict=True):
        style = STYLES[number % len(STYLES)]
        axes.plot(epochs["epoch"], values, style, lw=1.3, color=colour(number), label=label)
