"""Specimens: the most surprising inputs of a set as thumbnails, with their layer traces."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass

import numpy as np
from PIL import Image

from nervecode.viz.calibration import p_values
from nervecode.viz.saved import Saved

BAND = (5.0, 95.0)  # percentiles of ID calibration between which a trace is ordinary
PIXELS = 96  # thumbnails are enlarged to about this many pixels, so that 8x8 images stay sharp
WIDTH, HEIGHT, MARGIN = 168, 72, 8
CHANNELS = 6  # of a series, that are drawn


@dataclass(frozen=True)
class Specimen:
    """One input of a set.

    Attributes:
        number: its place in the set.
        words: score, p-value, label and prediction.
        picture: a PNG as a data URI; empty for what is not an image.
        features: the numbers of a vector; empty for other inputs.
        series: the channels of a series as an SVG element; empty for other inputs.
        trace: (L,) surprise of each layer, in deviations of ID calibration.
        drawing: the trace as an SVG element.
    """

    number: int
    words: str
    picture: str
    features: str
    series: str
    trace: tuple[float, ...]
    drawing: str


def specimens(saved: Saved, split: str) -> list[Specimen]:
    """The inputs that the stage `score` kept of a split; none where it kept none.

    Raises:
        ArtifactError: a file of the run is missing or damaged.
    """
    arrays = saved.layerwise(split)
    if "shown" not in arrays:
        return []
    method = saved.meta["primary_method"]
    scores = saved.scores(split)[method]
    p = p_values(saved.scores("id_calibration")[method], scores[arrays["shown"]])
    traces, band = standard_traces(saved, split)
    kept = []
    for row, pixels, p_value in zip(arrays["shown"], arrays["shown_inputs"], p, strict=True):
        image = pixels.ndim == 3
        kept.append(
            Specimen(
                number=int(row),
                words=f"{_classes(saved, split, arrays, int(row))}; "
                f"score\u00a0{scores[row]:.4g}, p\u00a0{p_value:.2g}",
                picture=thumbnail(pixels) if image else "",
                features=", ".join(f"{value:.3g}" for value in pixels[:16])
                if pixels.ndim == 1
                else "",
                series=draw_series(pixels) if pixels.ndim == 2 else "",
                trace=tuple(float(value) for value in traces[row]),
                drawing=draw_trace(traces[row], band),
            )
        )
    return kept


def standard_traces(saved: Saved, split: str) -> tuple[np.ndarray, np.ndarray]:
    """(N, L) surprise in deviations of ID calibration, and the (2, L) band of ID calibration."""
    band = np.percentile(saved.deviations("id_calibration"), BAND, axis=0)
    return saved.deviations(split), band


def thumbnail(pixels: np.ndarray) -> str:
    """(C, H, W) bytes as a PNG in a data URI, enlarged by a whole factor."""
    channels = np.moveaxis(pixels, 0, -1)
    image = Image.fromarray(channels[..., 0] if channels.shape[-1] != 3 else channels)
    factor = max(1, PIXELS // max(image.size))
    buffer = io.BytesIO()
    image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST).save(
        buffer, "PNG", optimize=True
    )
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def draw_series(values: np.ndarray) -> str:
    """An SVG of the first channels of a (C, T) series over its steps, on one scale."""
    steps = np.linspace(0, values.shape[1] - 1, min(values.shape[1], WIDTH)).round().astype(int)
    shown = values[:CHANNELS, steps].astype(np.float64)
    low, high = shown.min(), shown.max()
    places = np.linspace(MARGIN, WIDTH - MARGIN, len(steps))
    share = (shown - low) / (high - low if high > low else 1.0)
    heights = HEIGHT - MARGIN - share * (HEIGHT - 2 * MARGIN)
    lines = "".join(
        '<polyline class="series" points="'
        + " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(places, channel, strict=True))
        + '"/>'
        for channel in heights
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{lines}</svg>'


def draw_trace(trace: np.ndarray, band: np.ndarray) -> str:
    """An SVG of a (L,) trace over the (2, L) band; its height is arcsinh, since traces go far."""
    top = max(3.0, float(np.max(trace)), float(np.max(band)))
    bottom = min(-3.0, float(np.min(trace)), float(np.min(band)))
    low, high = np.arcsinh(bottom), np.arcsinh(top)
    places = np.linspace(MARGIN, WIDTH - MARGIN, len(trace)) if len(trace) > 1 else [WIDTH / 2]

    def points(values: np.ndarray) -> list[str]:
        heights = (
            HEIGHT - MARGIN - (np.arcsinh(values) - low) / (high - low) * (HEIGHT - 2 * MARGIN)
        )
        return [f"{x:.1f},{y:.1f}" for x, y in zip(places, heights, strict=True)]

    line = points(trace)
    area = points(band[1]) + points(band[0])[::-1]
    dots = "".join(
        f'<circle cx="{x}" cy="{y}" r="2.6"/>' for x, y in (point.split(",") for point in line)
    )
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">'
        f'<polygon class="band" points="{" ".join(area)}"/>'
        f'<polyline class="line" points="{" ".join(line)}"/>{dots}</svg>'
    )


def _classes(saved: Saved, split: str, arrays: dict[str, np.ndarray], row: int) -> str:
    """The class of an input, where it has one, and the class that the network gave it."""
    label, guess = int(arrays["labels"][row]), int(arrays["predictions"][row])
    names = dict(enumerate(saved.meta.get("classes", [])))
    # Labels of OOD sets are numbers in the set that they come from.
    inside = saved.groups.get(split.removeprefix("ood_"), "id") in ("id", "shift")
    label_name = names.get(label, label) if inside else label
    known = f"class {label_name}, " if label >= 0 else ""
    return f"{known}taken for {names.get(guess, guess)}"
