#!/usr/bin/env python
"""The picture of the README, from a finished run of the preset `digits`.

python scripts/readme_picture.py RUN FILE.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from nervecode.viz.saved import Saved, standard
from nervecode.viz.style import (
    ID_COLOUR,
    colour,
    deviations,
    finish,
    marker,
    new_figure,
    save,
    styled,
)

# Split of the run -> what it is to a reader.
SETS = {
    "ood_photo_patches": "patches of photographs",
    "ood_uniform_noise": "noise",
    "ood_rotate_90": "digits on their side",
    "ood_digits_8_9": "8 and 9, never seen",
    "id_test": "0 to 7, as learned",
}
LAYERS = ["block 1", "block 2", "block 3", "block 4", "answer"]
SHOWN = 5  # inputs of each set, as small pictures


def draw(run: Path, path: Path) -> None:
    saved = Saved(run)
    calibration = saved.layerwise("id_calibration")["surprise"]
    centre, spread = standard(calibration)
    with styled():
        figure = new_figure(9.6, 4.9)
        grid = figure.add_gridspec(len(SETS), 2, width_ratios=[1.9, 1])
        axes = figure.add_subplot(grid[:, 0])
        for number, (split, words) in enumerate(SETS.items()):
            tone, mark = ID_COLOUR if split == "id_test" else colour(number), marker(number)
            arrays = saved.layerwise(split)
            _line(axes, (arrays["surprise"] - centre) / spread, tone, mark)
            beside = figure.add_subplot(grid[number, 1])
            _inputs(beside, arrays["shown_inputs"], words, tone, mark)
        axes.set_xticks(range(len(LAYERS)), LAYERS)
        deviations([axes])
        axes.set_ylabel("surprise (bits / deviation of known inputs)")
        sizes = saved.meta["split_sizes"]
        finish(figure, title="How surprising is it, layer by layer?", caption=_caption(sizes),
               stamp=saved.stamp)  # fmt: skip
        save(figure, path)


def _line(axes: Axes, surprise: np.ndarray, tone: str, mark: str) -> None:
    """The median of each layer, over the middle half of the inputs."""
    low, middle, high = np.percentile(surprise, [25, 50, 75], axis=0)
    places = np.arange(len(middle))
    axes.fill_between(places, low, high, color=tone, alpha=0.2, lw=0)
    axes.plot(places, middle, f"{mark}-", ms=5, lw=2, color=tone)


def _inputs(axes: Axes, inputs: np.ndarray, words: str, tone: str, mark: str) -> None:
    """The first (n, 1, H, W) inputs beside one another."""
    count, _, height, width = inputs[:SHOWN].shape
    for column in range(count):
        left = column * (width + 2)
        axes.imshow(inputs[column, 0], cmap="gray", vmin=0, vmax=255,
                    extent=(left, left + width, 0, height))  # fmt: skip
        axes.plot(*_frame(left, width, height), color="#999999", lw=0.6)
    axes.set_xlim(-1, count * (width + 2) - 1)
    axes.set_ylim(-1, height + 1)
    axes.plot(0.5, height + 2.7, mark, ms=5, color=tone, clip_on=False)
    axes.set_title(f"     {words}", color=tone, fontsize=10, pad=3)
    axes.set_axis_off()


def _frame(left: int, width: int, height: int) -> tuple[list[int], list[int]]:
    right = left + width
    return [left, right, right, left, left], [0, 0, height, height, 0]


def _caption(sizes: dict[str, int]) -> str:
    counts = " + ".join(f"{sizes[split]:,}" for split in SETS)
    return (
        "A small network that learned the digits 0 to 7 tells what it does not know, and where in "
        "it that shows. Lines are medians, shades the middle half of the inputs "
        f"({counts}); the small pictures are the most surprising of each. "
        "nervecode bench --preset digits, seed 0"
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/readme_picture.py RUN FILE.png")
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
