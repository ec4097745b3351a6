"""What a run's file of calibration tells of its inputs, read without torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import SafetensorError, safe_open

from nervecode.errors import ArtifactError

SCORES = "ranked_scores"  # (N,) of the inputs that rank, beside what rebuilds a calibration
PLAIN = {"mean", "max", "total"}  # methods whose scores nothing makes, as in `scoring`
LABEL = ":label"  # ends the name of a label code, as in `scoring`, which would load torch


class StoredCalibration(NamedTuple):
    """The n calibration inputs whose readings are finite.

    Attributes:
        surprise: layer -> (n,) bits.
        scores: (n,) scores; None in files of before they were kept, or kept as they are now.
        predicted: (n,) classes by the label code; None where there is no such code.
        exact: whether none of these inputs makes the scores.
    """

    surprise: dict[str, np.ndarray]
    scores: np.ndarray | None
    predicted: np.ndarray | None
    exact: bool = False


def read_calibration(path: Path, signal: str) -> StoredCalibration:
    """The calibration of a signal.

    Raises:
        ArtifactError: the file is damaged, or has no calibration of the signal.
    """
    below = f"signals.{signal}."
    try:
        with safe_open(str(path), framework="np") as file:
            header = json.loads(file.metadata()["nervecode"])["header"]["signals"][signal]
            readings = {
                name: file.get_tensor(f"{below}calibration.{name}") for name in header["layers"]
            }
            keys = {*file.keys()}
            scores = file.get_tensor(below + SCORES) if below + SCORES in keys else None
            standard = any(key.startswith(f"{below}standard.") for key in keys)
            exact = standard or header.get("method") in PLAIN
    except (OSError, SafetensorError, LookupError, TypeError, ValueError) as error:
        raise ArtifactError(f"{path}: has no readable calibration ({error!r})") from None
    finite = np.all([np.isfinite(pair).all(1) for pair in readings.values()], axis=0)
    label = next((pair for name, pair in readings.items() if name.endswith(LABEL)), None)
    return StoredCalibration(
        {name: pair[finite, 0] for name, pair in readings.items()},
        None if scores is None else scores[finite],
        None if label is None else label[finite, 1].astype(int),
        exact,
    )
