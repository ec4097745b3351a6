"""CalibrationSet: what is known of the calibration behind the p-values of a scored file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nervecode.errors import InputError
from nervecode.lab.run.directory import RunDir
from nervecode.lab.watch.stored import StoredCalibration, read_calibration
from nervecode.monitor import ClassRanks, LayerRanks, Monitor

BITS = "bits:"  # and the layer: a column of a scored file


@dataclass(frozen=True)
class CalibrationSet:
    """A calibration set, by its size alone or from a run.

    Attributes:
        n: how many inputs.
        identity: a hash; empty where only the size is known.
        layers: ranks of the layers, from a run.
        run: the run whose calibration set it is, and `seed` of it.
        stored: what that run has stored of it.
    """

    n: int
    identity: str = ""
    layers: LayerRanks | None = None
    run: RunDir | None = None
    seed: int = 0
    stored: StoredCalibration | None = None

    @classmethod
    def of_run(cls, root: Path, *, seed: int | None = None) -> CalibrationSet:
        """The calibration set of a run.

        Raises:
            InputError: no such run or seed.
            ArtifactError: the run is not calibrated, or a file is damaged.
        """
        if root.is_dir() and not (root / "meta.json").is_file():
            raise InputError(f"--run {root}: is no run directory: it has no meta.json")
        run = RunDir(root)
        seeds: list[int] = run.meta["seeds"]
        seed = seeds[0] if seed is None else seed
        if seed not in seeds:
            raise InputError(f"--seed: found {seed}, allowed: {', '.join(map(str, seeds))}")
        path = run.verified(run.paths.calibration(seed))
        stored = read_calibration(path, run.meta["primary_method"])
        n = len(next(iter(stored.surprise.values())))
        return cls(n, run.recorded(path) or "", LayerRanks(stored.surprise), run, seed, stored)

    @cached_property
    def classes(self) -> ClassRanks:
        """Ranks within the predicted class.

        Raises:
            InputError: only the number of inputs is known, or their scores are not finite.
        """
        if self.run is None:
            raise InputError(
                "p-values within the predicted class: found --calibration, allowed: --run RUN, "
                "which knows how many calibration inputs each class has"
            )
        assert self.stored is not None
        scores, predicted = self.stored.scores, self.stored.predicted
        if scores is None or predicted is None:
            scores, predicted = _of_bench(self.run, self.seed)
        known = self.run.meta.get("num_classes")
        return ClassRanks(scores, predicted, classes=list(range(known)) if known else None)

    def monitor(
        self,
        *,
        alpha: float | None,
        run_length: float | None,
        layers: bool = False,
        by_class: bool = False,
    ) -> Monitor:
        """A monitor of p-values against this set, of its layers and classes too.

        Raises:
            InputError: a promise that the set cannot serve, or classes of which nothing is known.
        """
        scores = self.stored.scores if self.stored is not None else None
        return Monitor(
            self.classes.scores if by_class else self.n if scores is None else scores,
            alpha=alpha,
            run_length=run_length,
            layers=self.layers.names if layers and self.layers is not None else (),
            calibration=self.identity,
        )

    def has_layers(self, columns: Mapping[str, Any]) -> bool:
        """Whether a record has the surprise of every layer."""
        return self.layers is not None and all(BITS + name in columns for name in self.layers.names)


def _of_bench(run: RunDir, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) scores and predicted classes of the calibration inputs, as `bench` has kept them."""
    scores = run.arrays(run.paths.scores(seed, "id_calibration"))[run.meta["primary_method"]]
    return scores, run.arrays(run.paths.layerwise(seed, "id_calibration"))["predictions"]
