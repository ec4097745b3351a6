"""Matrix: every method on every OOD set, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from nervecode.errors import ArtifactError
from nervecode.lab.results.rows import Row, is_withheld, ranking, read_rows
from nervecode.viz.picture import Picture, plot
from nervecode.viz.saved import Saved
from nervecode.viz.style import new_figure


@plot("matrix")
def plot_matrix(saved: Saved) -> Picture:
    """AUROC of every method on every OOD set, mean over seeds; best of a set in bold."""
    rows = [row for row in read_rows(saved.run)["rows"] if row["ood"] in saved.ood]
    if is_withheld(rows):
        raise ArtifactError(
            f"{saved.run.root / 'results.json'}: its figures are withheld, the gate was not "
            f"passed; `{saved.run.command('bench', '--allow-low-accuracy')}` writes them"
        )
    methods, values = means(rows, saved.ood)
    figure = new_figure(max(6.0, 2.6 + 0.95 * len(saved.ood)), max(3.6, 2.3 + 0.27 * len(methods)))
    axes = figure.subplots()
    image = _draw(axes, methods, saved.ood, values)
    _separate(axes, [saved.groups[name] for name in saved.ood])
    bar = figure.colorbar(image, ax=axes, shrink=0.8, pad=0.02)
    bar.set_label("AUROC x100")
    seeds = len(saved.meta["seeds"])
    sizes = saved.meta.get("split_sizes", {})
    inside = f"{sizes['id_test']:,} ID test inputs; " if "id_test" in sizes else ""
    caption = (
        f"AUROC x100, higher is better; mean over {seeds} seed{'s' * (seeds != 1)}; {inside}OOD "
        f"inputs: {', '.join(f'{name} {_size(rows, name):,}' for name in saved.ood)}. "
        "Best of a set in bold; methods by the mean of near and far."
    )
    which = "all seeds" if seeds > 1 else None
    return Picture(figure, "every method on every OOD set", caption, seeds=which)


def means(rows: Sequence[Row], sets: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """M methods, best first, and (M, S) AUROC x100; NaN where a method failed."""
    by_method: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        cells = by_method.setdefault(row["method"], {})
        if row["status"] == "ok":
            cells.setdefault(row["ood"], []).append(100 * row["auroc"])
    values = {
        method: np.array([np.mean(cells[name]) if name in cells else np.nan for name in sets])
        for method, cells in by_method.items()
    }
    ranked = [row["method"] for row in ranking(rows)]
    rest = [method for method in by_method if method not in ranked]
    rest.sort(key=lambda method: -np.nan_to_num(values[method]).mean())
    methods = [*ranked, *rest]
    return methods, np.stack([values[method] for method in methods])


def _draw(axes: Axes, methods: list[str], sets: list[str], values: np.ndarray) -> Any:
    lowest = min(90.0, 10 * np.floor(np.nanmin(values, initial=100) / 10))
    image = axes.imshow(values, cmap="cividis", vmin=lowest, vmax=100, aspect="auto")
    shown = values.round(2)
    filled = np.where(np.isnan(shown), -np.inf, shown)
    for (r, c), value in np.ndenumerate(shown):
        text = "failed" if np.isnan(value) else f"{value:.2f}"
        ink = "black" if value > (lowest + 100) / 2 or np.isnan(value) else "white"
        weight = "bold" if value == filled[:, c].max() else "normal"
        axes.text(c, r, text, ha="center", va="center", fontsize=8, color=ink, fontweight=weight)
    axes.set_yticks(range(len(methods)), methods, fontsize=8)
    axes.set_xticks(range(len(sets)), sets, fontsize=8)
    axes.tick_params(axis="x", rotation=35, length=0)
    axes.tick_params(axis="y", length=0)
    for label in axes.get_xticklabels():
        label.set_horizontalalignment("right")
        label.set_rotation_mode("anchor")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return image


def _separate(axes: Axes, groups: Sequence[str]) -> None:
    """A white line between groups, and the name of each above it."""
    starts = [i for i, group in enumerate(groups) if i == 0 or group != groups[i - 1]]
    for low, high in pairwise([*starts, len(groups)]):
        if low:
            axes.axvline(low - 0.5, color="white", lw=4)
        axes.text((low + high - 1) / 2, -0.7, groups[low], ha="center", va="bottom", fontsize=9,
                  fontweight="bold")  # fmt: skip


def _size(rows: Sequence[Row], name: str) -> int:
    return next((int(r["n_ood"]) for r in rows if r["ood"] == name and r["status"] == "ok"), 0)
