"""Stream: what a monitor says of inputs as they come: evidence, flags, layers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nervecode.errors import InputError
from nervecode.lab.watch.calibration import BITS, CalibrationSet
from nervecode.lab.watch.job import Heard, WatchJob
from nervecode.lab.watch.watcher import FLAG, P_VALUE, PREDICTION, Watcher
from nervecode.viz.calibration import p_values
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
class Promise:
    """What `watch` is asked for by the options of these names."""

    alpha: float | None
    run_length: float | None
    by_class: bool


class Stream:
    """What a watcher said after each of N inputs.

    Attributes:
        words: what the stream is.
        change: the number of the input at which it changes, where that is known.
        evidence: N powers of ten.
        by_layer: N lists of L of them.
        monitor: as it stands at the end.
    """

    def __init__(self, words: str, change: int | None = None) -> None:
        self.words, self.change = words, change
        self.evidence: list[float] = []
        self.by_layer: list[list[float]] = []
        self._flagged: list[int | None] = []

    def note(self, watcher: Watcher) -> None:
        """Note how a watcher stands, once an input."""
        self.monitor = watcher.monitor
        if self.monitor.inputs > len(self.evidence):
            self.evidence.append(self.monitor.log10_evidence)
            self.by_layer.append(list(self.monitor.layers.values()))
            self._flagged.append(watcher.flagged)

    @property
    def flags(self) -> np.ndarray | None:
        """(N,) whether each was flagged; None where that is not known of all."""
        if None in self._flagged:
            return None
        return np.diff(np.array(self._flagged), prepend=0)


@plot("stream")
def plot_stream(
    saved: Saved,
    *,
    scored: Path | None = None,
    alpha: float | None = None,
    run_length: float | None = None,
    by_class: bool = False,
    skip_bad: bool = False,
) -> Picture:
    """A scored file as `watch` sees it; without one a rehearsal: ID test, then the first OOD set.

    Args:
        saved: the run that scored.
        scored: the file.
        alpha: as of `watch`.
        run_length: as of `watch`.
        by_class: as of `watch`.
        skip_bad: of the file, as of `watch`.
    """
    promise = Promise(alpha, run_length, by_class)
    if scored is not None:
        stream = _of_file(saved, scored, promise, skip_bad=skip_bad)
    elif skip_bad:
        raise InputError("--skip-bad: found without --scored, allowed: with --scored FILE")
    else:
        stream = _rehearsal(saved, promise)
    parts = [_draw_evidence]
    if stream.flags is not None:
        parts.append(_draw_flags)
    if stream.monitor.settings.layers:
        parts.append(_draw_layers)
    figure = new_figure(9, 1.6 + 1.6 * 1.1 * len(parts))
    rows = figure.subplots(len(parts), 1, sharex=True, squeeze=False)[:, 0]
    for draw, axes in zip(parts, rows, strict=True):
        draw(axes, stream)
        _mark(axes, stream)
    rows[-1].set_xlabel("input")
    rows[-1].set_xlim(1, len(stream.evidence))
    return Picture(figure, "a monitored stream", _caption(saved, stream))


def _rehearsal(saved: Saved, promise: Promise) -> Stream:
    if not saved.ood:
        raise InputError("stream: the run has no OOD set; name a scored file with --scored")
    splits, method = ("id_test", f"ood_{saved.ood[0]}"), saved.meta["primary_method"]
    scores = [saved.scores(split)[method] for split in splits]
    p = p_values(saved.scores("id_calibration")[method], np.concatenate(scores))
    layerwise = [saved.layerwise(split) for split in splits]
    bits = np.concatenate([part["surprise"] for part in layerwise]).tolist()
    predicted = [0] * len(bits)
    if promise.by_class:
        predicted = np.concatenate([part["predictions"] for part in layerwise]).tolist()
    calibrated = CalibrationSet.of_run(saved.run.root, seed=saved.seed)
    assert calibrated.layers is not None
    columns = [BITS + name for name in calibrated.layers.names]
    watcher = Watcher(calibrated, calibrated.monitor(**vars(promise), layers=True))
    stream = Stream(f"ID test, then {saved.ood[0]} from the dotted line on", len(scores[0]))
    for p_value, label, row in zip(p.tolist(), predicted, bits, strict=True):
        values = {P_VALUE: p_value, FLAG: p_value <= FLAGGED, PREDICTION: label}
        watcher.take(values | dict(zip(columns, row, strict=True)), "stream")
        stream.note(watcher)
    return stream


def _of_file(saved: Saved, path: Path, promise: Promise, *, skip_bad: bool) -> Stream:
    stream = Stream(path.name)
    job = WatchJob(
        str(path), run=saved.run.root, seed=saved.seed, skip_bad=skip_bad, **vars(promise)
    )
    watcher = job.work(Heard(lambda _: None, lambda _: None, stream.note))
    if watcher.skipped:
        stream.words += f", {watcher.skipped:,} skipped"
    if watcher.monitor.inputs < 2:
        raise InputError(f"{path}: found 1 input, allowed: 2 and more, for a picture")
    return stream


def _draw_evidence(axes: Axes, stream: Stream) -> None:
    monitor, evidence = stream.monitor, stream.evidence
    axes.plot(np.arange(1, len(evidence) + 1), evidence, lw=1.4, color=ID_COLOUR)
    axes.axhline(monitor.log10_threshold, ls="--", lw=1, color=MARK)
    _powers(axes, monitor.log10_threshold)
    axes.set_ylabel("evidence\n(power of ten)")


def _draw_flags(axes: Axes, stream: Stream) -> None:
    assert stream.flags is not None
    n = len(stream.flags)
    window = min(n, max(WINDOW, n // WINDOW))
    rate = np.convolve(stream.flags, np.ones(window) / window, mode="valid")
    axes.plot(np.arange(window, n + 1), 100 * rate, lw=1.2, color=colour(0))
    axes.set_ylim(0, max(10.0, 105 * float(rate.max())))
    axes.set_ylabel(f"flagged (%)\nof the last {window}")


def _draw_layers(axes: Axes, stream: Stream) -> None:
    monitor, by_layer = stream.monitor, np.array(stream.by_layer)
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


def _mark(axes: Axes, stream: Stream) -> None:
    alarm = stream.monitor.alarm
    if stream.change is not None:
        axes.axvline(stream.change + 0.5, ls=":", lw=1, color="#777777")
    if alarm is not None:
        axes.axvspan(alarm.since, alarm.input, color=MARK, alpha=0.15, lw=0)
        axes.axvline(alarm.input, lw=1, color=MARK)


def _caption(saved: Saved, stream: Stream) -> str:
    settings, alarm = stream.monitor.settings, stream.monitor.alarm
    said = f"{stream.words}; {len(stream.evidence):,} inputs, "
    said += f"{settings.n_calibration:,} calibration inputs, seed {saved.seed}. "
    if alarm is None:
        said += "No alarm. "
    else:
        said += f"There is an {alarm}. The shade leads from the estimated beginning to the alarm. "
    if settings.run_length is None:
        said += f"The dashed line is passed by chance, ever, with probability {settings.alpha:g} "
        said += "at most."
    else:
        said += f"The dashed line is passed by chance after {settings.run_length:,.0f} inputs, on "
        said += "average, at the earliest."
    if settings.layers:
        said += f" Layers named at the end: {', '.join(stream.monitor.named_layers) or 'none'}."
    return said + (" Predicted classes are watched too." if settings.classes else "")
