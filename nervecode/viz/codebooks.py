"""Codebooks: how much of each learned codebook is in use while it is learned."""

from __future__ import annotations

import numpy as np

from nervecode.viz.picture import Picture, plot
from nervecode.viz.saved import Saved
from nervecode.viz.style import new_figure

# Column of the diagnostics -> title, label of the colour bar, and factor.
PANELS = {
    "utilisation": ("Codes in use", "codes that were nearest to some input (%)", 100.0),
    "entropy": ("Indecision", "entropy of the assignment (nats)", 1.0),
}


@plot("codebooks")
def plot_codebooks(saved: Saved) -> Picture:
    """Use and entropy of every learned codebook over the epochs."""
    columns = saved.codebooks()
    layers = list(dict.fromkeys(map(str, columns["layer"])))
    epochs = np.unique(columns["epoch"])
    figure = new_figure(10, 2.6 + 0.24 * len(layers))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (name, (title, label, factor)) in zip(panels, PANELS.items(), strict=True):
        grid = factor * table(columns, name, layers, epochs)
        top = 100.0 if name == "utilisation" else None
        edges = (epochs[0] - 0.5, epochs[-1] + 0.5, len(layers) - 0.5, -0.5)
        image = axes.imshow(grid, cmap="cividis", vmin=0, vmax=top, aspect="auto", extent=edges,
                            interpolation="nearest")  # fmt: skip
        axes.set_title(title)
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(visible=False)
        figure.colorbar(image, ax=axes, location="bottom", shrink=0.9, aspect=35).set_label(label)
    panels[0].set_yticks(range(len(layers)), layers, fontsize=8)
    sizes = saved.meta.get("split_sizes", {})
    caption = (
        f"Averages over each epoch, {sizes.get('id_train', 0):,} ID training inputs, seed "
        f"{saved.seed}. The share of codes that keep being used says whether a codebook lives; "
        "an entropy of 0 is a hard choice."
    )
    return Picture(figure, "learned codebooks", caption)


def table(
    columns: dict[str, np.ndarray], name: str, layers: list[str], epochs: np.ndarray
) -> np.ndarray:
    """(layers, epochs) of one column; NaN where a layer has no figure."""
    cells = np.full((len(layers), len(epochs)), np.nan)
    rows = [layers.index(str(layer)) for layer in columns["layer"]]
    cells[rows, np.searchsorted(epochs, columns["epoch"])] = columns[name]
    return cells
