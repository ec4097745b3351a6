"""Stream: what a monitor says of inputs as they come: evidence, flags, layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nervecode.errors import InputError
from nervecode.lab.watch.calibration import BITS, CalibrationSet
from nervecode.lab.watch.tail import Tail
from nervecode.lab.watch.watcher import FLAG, P_VALUE, POOLED, TRUE, input_of
from nervecode.monitor import Monitor
from nervecode.viz.picture import Picture, plot
from nervecode.viz.saved import Saved
from nervecode.viz.style import ID_COLOUR, STYLES, colour, new_figure

FLAGGED = 0.05  # p-values of a run up to here count as flagged
WINDOW = (
    20  # the rate of flags is over a share 1 / WINDOW of the stream, and WINDOW inputs at least
)
MARK = "#B00020"
POWERS = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 10_000)


@dataclass(frozen=True)
class Stream:
    """N inputs in order.

    Attributes:
        p_values: (N,).
        predicted: N classes that these are within; None where they are of all classes.
        flags: (N,).
        layers: (N, L) layers' p-values.
        change: the number of the input at which it changes, where that is known.
        words: what it is.
    """

    p_values: np.ndarray
    predicted: list[int] | None
    flags: np.ndarray
    layers: np.ndarray | None
    change: int | None
    words: str


@plot("stream")
def plot_stream(saved: Saved, *, scored: Path | None = None) -> Picture:
    """A scored file; without one a rehearsal: ID test, then the first of the OOD sets."""
    calibrated = CalibrationSet.of_run(saved.run.root, seed=saved.seed)
    stream = _rehearsal(saved, calibrated) if scored is None else _of_file(scored, calibrated)
    monitor = calibrated.monitor(
        alpha=None, run_length=None,
        layers=stream.layers is not None, by_class=stream.predicted is not None,
    )  # fmt: skip
    by_layer = []
    evidence = np.empty(len(stream.p_values))
    for i, p in enumerate(stream.p_values.tolist()):
        monitor.update(
            p,
            layers=None if stream.layers is None else stream.layers[i],
            predicted=None if stream.predicted is None else stream.predicted[i],
        )
        evidence[i] = monitor.log10_evidence
        by_layer.append(list(monitor.layers.values()))
    height = 2.2 if stream.layers is None else 3.3
    figure = new_figure(9, 1.6 + height * 1.6)
    rows = figure.subplots(2 if stream.layers is None else 3, 1, sharex=True)
    _draw_evidence(rows[0], monitor, evidence)
    _draw_flags(rows[1], stream)
    if stream.layers is not None:
        _draw_layers(rows[2], monitor, np.array(by_layer))
    for axes in rows:
        _mark(axes, stream, monitor)
    rows[-1].set_xlabel("input")
    rows[-1].set_xlim(1, len(evidence))
    return Picture(figure, "a monitored stream", _caption(saved, stream, calibrated, monitor))


def _rehearsal(saved: Saved, calibrated: CalibrationSet) -> Stream:
    if not saved.ood:
        raise InputError("stream: the run has no OOD set; name a scored file with --scored")
    splits, method = ("id_test", f"ood_{saved.ood[0]}"), saved.meta["primary_method"]
    known = saved.scores("id_calibration")[method]
    scores = [saved.scores(split)[method] for split in splits]
    ordered = np.sort(known.astype(float))
    below = ordered.searchsorted(np.concatenate(scores).astype(float))
    p = (1 + len(ordered) - below) / (len(ordered) + 1)
    bits = np.concatenate([saved.layerwise(split)["surprise"] for split in splits])
    layers = _layers(calibrated, bits)
    words = f"ID test, then {saved.ood[0]} from the dotted line on"
    return Stream(p, None, p <= FLAGGED, layers, len(scores[0]), words)


def _of_file(path: Path, calibrated: CalibrationSet) -> Stream:
    tail = Tail(str(path))
    rows = [tail.parse(record) for record in tail.records() if record is not None]
    if not rows:
        raise InputError(f"{path}: holds no record")
    try:
        by_class = POOLED in rows[0]
        inputs = [input_of(row, calibrated, str(path), by_class=by_class) for row in rows]
        flags = np.array([row[FLAG] in TRUE if FLAG in row else float(row[P_VALUE]) <= FLAGGED
                          for row in rows])  # fmt: skip
        layers = None
        if calibrated.layers is not None and calibrated.has_layers(rows[0]):
            names = [BITS + name for name in calibrated.layers.names]
            bits = np.array([[float(row[name]) for name in names] for row in rows])
            layers = _layers(calibrated, bits)
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no file of scored inputs ({error})") from None
    p = np.array([p_value for p_value, _ in inputs])
    predicted = [of_class for _, of_class in inputs if of_class is not None] if by_class else None
    return Stream(p, predicted, flags, layers, None, path.name)


def _layers(calibrated: CalibrationSet, bits: np.ndarray) -> np.ndarray:
    ranks = calibrated.layers
    assert ranks is not None
    return np.stack([ranks.p_values(row, i) for i, row in enumerate(bits.tolist())])


def _draw_evidence(axes: Axes, monitor: Monitor, evidence: np.ndarray) -> None:
    axes.plot(np.arange(1, len(evidence) + 1), evidence, lw=1.4, color=ID_COLOUR)
    axes.axhline(monitor.log10_threshold, ls="--", lw=1, color=MARK)
    _powers(axes, monitor.log10_threshold)
    axes.set_ylabel("evidence\n(power of ten)")


def _draw_flags(axes: Axes, stream: Stream) -> None:
    n = len(stream.flags)
    window = min(n, max(WINDOW, n // WINDOW))
    rate = np.convolve(stream.flags, np.ones(window) / window, mode="valid")
    axes.plot(np.arange(window, n + 1), 100 * rate, lw=1.2, color=colour(0))
    axes.set_ylim(0, max(10.0, 105 * float(rate.max())))
    axes.set_ylabel(f"flagged (%)\nof the last {window}")


def _draw_layers(axes: Axes, monitor: Monitor, by_layer: np.ndarray) -> None:
    names = monitor.settings.layers
    for number, name in enumerate(names):
        style = STYLES[number // 8 % len(STYLES)]
        values = by_layer[:, number]
        axes.plot(np.arange(1, len(values) + 1), values, style, lw=1, color=colour(number),
                  label=name)  # fmt: skip
    threshold = monitor.log10_threshold + float(np.log10(len(names)))
    axes.axhline(threshold, ls="--", lw=1, color=MARK)
    _powers(axes, threshold)
    axes.set_ylabel("evidence of layers\n(power of ten)")
    if len(names) <= 12:
        axes.legend(loc="upper left", ncols=4, fontsize=7)


def _powers(axes: Axes, threshold: float) -> None:
    """An axis of powers of ten: linear up to twice the threshold, then logarithmic itself."""
    low, high = axes.dataLim.intervaly
    axes.set_yscale("symlog", linthresh=2 * threshold, linscale=0.7)
    axes.set_ylim(min(-1.0, low) - 0.5, max(2 * threshold, 1.3 * high))
    axes.yaxis.set_major_locator(FixedLocator([-5, -2, 0, *POWERS]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}".replace("-", "−")))


def _mark(axes: Axes, stream: Stream, monitor: Monitor) -> None:
    if stream.change is not None:
        axes.axvline(stream.change + 0.5, ls=":", lw=1, color="#777777")
    if monitor.alarm is not None:
        axes.axvspan(monitor.alarm.since, monitor.alarm.input, color=MARK, alpha=0.15, lw=0)
        axes.axvline(monitor.alarm.input, lw=1, color=MARK)


def _caption(saved: Saved, stream: Stream, calibrated: CalibrationSet, monitor: Monitor) -> str:
    alarm = monitor.alarm
    said = f"{alarm!s}".capitalize() if alarm is not None else "No alarm"
    named = ", ".join(monitor.named_layers) or "none"
    layers = "" if stream.layers is None else f" Layers named at the end: {named}."
    return (
        f"{stream.words}; {len(stream.p_values):,} inputs, {calibrated.n:,} calibration inputs, "
        f"seed {saved.seed}. {said}. The shade leads from the estimated beginning to the alarm; "
        f"the dashed line is passed by chance, ever, with probability {monitor.settings.alpha:g} "
        f"at most.{layers}"
    )
