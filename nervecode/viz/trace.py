"""Trace: the surprise of one input over the layers, against the band of ID inputs."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from nervecode.errors import InputError
from nervecode.viz.panels import label_panels, panels
from nervecode.viz.picture import Picture, plot
from nervecode.viz.saved import Saved
from nervecode.viz.style import DEVIATIONS, deviations, name_layers

BANDS = ((5, 95, "#E2E2E2"), (25, 75, "#BDBDBD"))


@plot("trace")
def plot_trace(saved: Saved, *, sample: int | None = None) -> Picture:
    """One panel a set, with the trace of one input: the `sample`-th, or the most surprising."""
    layers = [str(name) for name in saved.layerwise("id_calibration")["layer_names"]]
    inside = saved.deviations("id_calibration")
    splits = {"ID test": "id_test"} | {name: f"ood_{name}" for name in saved.ood}
    height = 2.4 + 0.03 * max(map(len, layers))  # their names stand aslant below
    figure, drawn = panels(list(splits), width=2.3 + 0.12 * len(layers), height=height)
    for axes, (name, split) in zip(drawn, splits.items(), strict=True):
        values = saved.deviations(split)
        chosen = _chosen(saved, split, len(values)) if sample is None else sample
        if not 0 <= chosen < len(values):
            raise InputError(f"sample: {name} has no {chosen}, allowed: 0 to {len(values) - 1}")
        _draw(axes, inside, values[chosen], saved.look(name)[0])
        name_layers(axes, layers)
        axes.set_title(f"{name} #{chosen}\nof {len(values):,}", fontsize=8.5)
    deviations(drawn)
    label_panels(drawn, y=DEVIATIONS)
    which = "the input of highest score" if sample is None else f"input {sample}"
    caption = (
        f"Surprise of each layer in deviations of {len(inside):,} ID calibration inputs; the bands "
        f"hold 50 % and 90 % of them. The line is {which} of each set. Seed {saved.seed}."
    )
    return Picture(figure, "single inputs, layer by layer", caption)


def _chosen(saved: Saved, split: str, n: int) -> int:
    scores = saved.scores(split)[saved.meta["primary_method"]]
    assert len(scores) == n
    return int(np.argmax(scores))


def _draw(axes: Axes, inside: np.ndarray, trace: np.ndarray, tone: str) -> None:
    places = np.arange(len(trace))
    for low, high, shade in BANDS:
        ends = np.percentile(inside, [low, high], axis=0)
        axes.fill_between(places, *ends, color=shade, lw=0)
    axes.plot(places, trace, "o-", ms=3.5, lw=1.4, color=tone)
