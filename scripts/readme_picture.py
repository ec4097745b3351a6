#!/usr/bin/env python
"""The picture of the README, from a finished run of the preset `digits`.

python scripts/readme_picture.py RUN FILE.png
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from nervecode.viz.calibration import beta_binomial, false_alarms, p_values
from nervecode.viz.saved import Saved
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
SHOWN = np.linspace(0.05, 0.95, 6)  # quantiles of the score, of the inputs that are shown
ALPHA = 0.05


def draw(run: Path, path: Path) -> None:
    saved, inputs = Saved(run), images(run)
    with styled():
        figure = new_figure(10.4, 5.2)
        grid = figure.add_gridspec(len(SETS), 2, width_ratios=[1.7, 1])
        axes = figure.add_subplot(grid[:, 0])
        for number, (split, words) in enumerate(SETS.items()):
            tone, mark = ID_COLOUR if split == "id_test" else colour(number), marker(number)
            _line(axes, saved.deviations(split), tone, mark)
            scores = saved.scores(split)[saved.meta["primary_method"]]
            beside = figure.add_subplot(grid[number, 1])
            title = f"{words}: {100 * _flagged(saved, scores):.0f} % flagged"
            _inputs(beside, inputs[split][_places(scores)], title, tone, mark)
        axes.set_xticks(range(len(LAYERS)), LAYERS)
        deviations([axes])
        axes.set_ylabel("surprise (bits / deviation of known inputs)")
        caption = f"{_caption(saved.meta['split_sizes'])} {_promise(run, saved)}"
        title = "How surprised is the network, layer by layer?"
        finish(figure, title=title, caption=caption, stamp=saved.stamp)
        save(figure, path)


def images(run: Path) -> dict[str, np.ndarray]:
    """Split -> its (N, 1, H, W) inputs, from the data sets that the config of the run names."""
    from nervecode.lab.data.splits import build_splits
    from nervecode.lab.run.directory import RunDir

    config = RunDir(run).config
    assert config is not None
    return {
        name: samples.inputs.numpy()
        for name, samples in build_splits(config.data).evaluated().items()
    }


def _places(scores: np.ndarray) -> np.ndarray:
    """Where the inputs at `SHOWN` are, the least surprising first."""
    ordered = np.argsort(scores, kind="stable")
    return ordered[(SHOWN * (len(scores) - 1)).round().astype(int)]


def _flagged(saved: Saved, scores: np.ndarray) -> float:
    calibration = saved.scores("id_calibration")[saved.meta["primary_method"]]
    return float((p_values(calibration, scores) <= ALPHA).mean())


def _line(axes: Axes, surprise: np.ndarray, tone: str, mark: str) -> None:
    """The median of each layer, over the middle half of the inputs."""
    low, middle, high = np.percentile(surprise, [25, 50, 75], axis=0)
    places = np.arange(len(middle))
    axes.fill_between(places, low, high, color=tone, alpha=0.2, lw=0)
    axes.plot(places, middle, f"{mark}-", ms=6, lw=2.2, color=tone)


def _inputs(axes: Axes, shown: np.ndarray, title: str, tone: str, mark: str) -> None:
    """The (n, 1, H, W) inputs beside one another."""
    count, _, height, width = shown.shape
    for column in range(count):
        left = 1.2 * width * column
        axes.imshow(shown[column, 0], cmap="gray", extent=(left, left + width, 0, height),
                    vmin=0, vmax=255 if shown.dtype == np.uint8 else 1)  # fmt: skip
        ends = ([left, left + width, left + width, left, left], [0, 0, height, height, 0])
        axes.plot(*ends, color="#999999", lw=0.6)
    axes.set_xlim(-0.1 * width, 1.2 * width * count)
    axes.set_ylim(-0.1 * height, 1.1 * height)
    axes.plot(0.06 * width, 1.33 * height, mark, ms=6, color=tone, clip_on=False)
    axes.set_title(f"     {title}", color=tone, fontsize=10, pad=3)
    axes.set_axis_off()


def _caption(sizes: dict[str, int]) -> str:
    counts = " + ".join(f"{sizes[split]:,}" for split in SETS)
    return (
        "A small network has learned the digits 0 to 7. How far its layers are surprised tells "
        "what it does not know, and where in it that shows. Lines are medians, shades the middle "
        f"half of the inputs ({counts}); flagged: p ≤ {ALPHA:g}, calibrated on held-out digits. "
        "Small pictures: from the least to the most surprising. "
        "nervecode\u00a0bench\u00a0--preset\u00a0digits, seed 0."
    )


def _promise(run: Path, saved: Saved) -> str:
    """How the flagged among the known inputs go with alpha, by every seed."""
    seeds = saved.meta["seeds"]
    n, held_out = (
        len(saved.layerwise(split)["surprise"]) for split in ("id_test", "id_calibration")
    )
    rates = [false_alarms(Saved(run, seed=seed), (ALPHA,))[0].rate for seed in seeds]
    k = int(ALPHA * (held_out + 1) + 1e-9)
    low, high = 100 * beta_binomial(n, k, held_out + 1 - k) / n
    return (
        f"Of known digits at most {100 * ALPHA:g} % are flagged on average over calibration sets; "
        f"for one of {held_out} and {n} test digits, 19 times in 20, {low:.0f} to {high:.0f} %. "
        f"Here: {_list(f'{100 * rate:.0f}' for rate in rates)} % (seeds {_list(map(str, seeds))})."
    )


def _list(texts: Iterable[str]) -> str:
    return ", ".join(texts)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python scripts/readme_picture.py RUN FILE.png")
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
