"""quickest: how soon a monitor can raise an alarm at all."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np

from nervecode.errors import InputError
from nervecode.monitor.ranks import Ranked
from nervecode.monitor.settings import MonitorSettings
from nervecode.monitor.stream import StreamState

REACH = 1000  # inputs, all of the smallest p-value, within which an alarm must be possible


@lru_cache(maxsize=64)
def quickest(settings: MonitorSettings) -> int:
    """The fewest inputs to an alarm: all are more surprising than any calibration input.

    They are of the largest class alone, or of the 2, 4, ... largest or all of them in turn.

    Raises:
        InputError: so many calibration inputs cannot serve the promise.
    """
    counts = np.array([count for _, count in settings.classes] or [settings.n_calibration])
    largest = np.argsort(-counts, kind="stable")
    turns = [1 << i for i in range(len(counts).bit_length()) if 1 << i < len(counts)]
    reached = [r for k in (*turns, len(counts)) if (r := _reached(settings, counts, largest[:k]))]
    if reached:
        return min(reached)
    name = "alpha" if settings.run_length is None else "run_length"
    raise InputError(
        f"{name}: found {getattr(settings, name):g}, which {counts.max()} calibration "
        f"inputs cannot serve: {REACH} inputs in a row that surprise more than all of them "
        "would raise no alarm; allowed: a weaker promise, or more calibration inputs"
    )


def _reached(settings: MonitorSettings, counts: np.ndarray, classes: np.ndarray) -> int:
    """Inputs of the smallest p-value, of some classes in turn, to an alarm; 0 for none."""
    rows = np.resize(classes, REACH)
    by_layer = np.full((REACH, len(settings.layers)), 0.5)
    ranked = Ranked(1 / (counts[rows] + 1), rows, by_layer, np.zeros(REACH, dtype=np.int64))
    evidence = StreamState(settings).block(ranked)
    enough = np.flatnonzero(evidence >= math.log(settings.threshold))
    return int(enough[0]) + 1 if len(enough) else 0
