#!/usr/bin/env python
"""Other detectors of changes on the streams of bench_monitor.py, which runs this file.

    python scripts/bench_monitor_rivals.py STREAMS.npz SHARE CUSUM,ADWIN,KSWIN,MMD

It runs in the environment that has river and alibi-detect. Each detector's threshold is set so
that a SHARE of the streams without a change raise an alarm; the last line printed is JSON:
detector -> change -> the input of each stream's alarm, 0 for none.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import numpy as np

Streams = dict[str, list[tuple[np.ndarray, np.ndarray]]]
# A detector turns (calibration, stream) into a number per input; it is raised above a threshold.
Detector = Callable[[np.ndarray, np.ndarray], Iterable[float]]


def cusum(calibration: np.ndarray, stream: np.ndarray) -> np.ndarray:
    """Page's, for a rise by one deviation of the calibration scores."""
    z = (stream - calibration.mean()) / calibration.std() - 0.5
    total = np.concatenate([[0.0], z.cumsum()])
    return total[1:] - np.minimum.accumulate(total)[:-1]


def kswin(calibration: np.ndarray, stream: np.ndarray) -> Iterator[float]:
    """-ln of the p-value of river's KSWIN, whose window holds calibration scores at first."""
    from river import drift

    detector = drift.KSWIN(alpha=1e-300, seed=0)
    for value in calibration[-100:].tolist():
        detector.update(value)
    for value in stream.tolist():
        detector.update(value)
        yield -float(np.log(max(detector.p_value, 1e-300)))


def adwin(calibration: np.ndarray, stream: np.ndarray, delta: float) -> int:
    """The first input at which river's ADWIN sees a change, 0 for none."""
    from river import drift

    detector = drift.ADWIN(delta=delta)
    for value in calibration.tolist():
        detector.update(value)
    for number, value in enumerate(stream.tolist(), 1):
        detector.update(value)
        if detector.drift_detected:
            return number
    return 0


def mmd(calibration: np.ndarray, stream: np.ndarray, window: int) -> Iterator[float]:
    """The statistic of alibi-detect's online MMD over windows of so many inputs."""
    import torch
    from alibi_detect.cd.pytorch.mmd_online import MMDDriftOnlineTorch

    class Statistic(MMDDriftOnlineTorch):  # type: ignore[misc]
        """Without the thresholds of its own, which take minutes and are not used here."""

        def _configure_thresholds(self) -> None:
            self.thresholds = [np.inf] * self.window_size

    scaled = ((x - calibration.mean()) / calibration.std() for x in (calibration, stream))
    reference, values = (x.astype(np.float32)[:, None] for x in scaled)
    torch.manual_seed(0)
    detector = Statistic(reference, ert=200, window_size=window, verbose=False)
    for value in values:
        yield detector.score(value)


def by_threshold(streams: Streams, share: float, detector: Detector) -> dict[str, list[int]]:
    """With the threshold that so many of the streams without a change pass."""
    quiet = [np.array([*detector(*each)]) for each in streams["none"]]
    threshold = np.quantile([values.max() for values in quiet], 1 - share, method="higher")

    def alarm(values: Iterable[float]) -> int:
        return next((number for number, value in enumerate(values, 1) if value > threshold), 0)

    return {
        name: [alarm(values) for values in quiet]
        if name == "none"
        else [alarm(detector(*each)) for each in group]
        for name, group in streams.items()
    }


def by_setting(
    streams: Streams, share: float, detect: Callable[..., int], settings: list[float]
) -> dict[str, list[int]]:
    """With the most sensitive setting, first in the list, whose false alarms are few enough."""
    for setting in settings:
        alarms = [detect(*each, setting) for each in streams["none"]]
        print(
            f"{detect.__name__} {setting:g}: {np.mean(np.array(alarms) > 0):.2f}", file=sys.stderr
        )
        if np.mean(np.array(alarms) > 0) <= share:
            break
    others = {
        name: [detect(*each, setting) for each in group]
        for name, group in streams.items()
        if name != "none"
    }
    return {"none": alarms} | others


def main() -> None:
    streams: Streams = {}
    with np.load(sys.argv[1]) as file:
        for key in file.files:
            name, number, part = key.split("/")
            if part == "stream":
                pair = file[f"{name}/{number}/calibration"], file[key]
                streams.setdefault(name, []).append(pair)
    share = float(sys.argv[2])
    few = {name: group[:MMD_STREAMS] for name, group in streams.items()}
    works = {
        "CUSUM": (by_threshold, streams, share, cusum),
        "ADWIN": (by_setting, streams, share, adwin, [10 ** (-k / 4) for k in range(5, 40)]),
        "KSWIN": (by_threshold, streams, share, kswin),
        "MMD": (by_threshold, few, share, partial(mmd, window=20)),
        "MMD-100": (by_threshold, few, share, partial(mmd, window=100)),
    }
    with ProcessPoolExecutor(2) as pool:
        running = {name: pool.submit(*works[name]) for name in sys.argv[3].split(",")}
        found = {name: done.result() for name, done in running.items()}
    print(json.dumps(found))


MMD_STREAMS = 20  # it is slow


if __name__ == "__main__":
    main()
