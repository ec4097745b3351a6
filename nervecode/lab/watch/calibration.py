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
    """

    n: int
    identity: str = ""
    layers: LayerRanks | None = None
    run: RunDir | None = None
    seed: int = 0

    @classmethod
    def of_run(cls, root: Path, *, seed: int | None = None) -> CalibrationSet:
        """The calibration set of a run.

        Raises:
            InputError: no such run or seed.
            ArtifactError: the run has not scored its calibration set, or a file is damaged.
        """
        run = RunDir(root)
        seeds: list[int] = run.meta["seeds"]
        seed = seeds[0] if seed is None else seed
        if seed not in seeds:
            raise InputError(f"--seed: found {seed}, allowed: {', '.join(map(str, seeds))}")
        layerwise = run.arrays(run.paths.layerwise(seed, "id_calibration"))
        names = [str(name) for name in layerwise["layer_names"]]
        layers = LayerRanks(dict(zip(names, layerwise["surprise"].T, strict=True)))
        identity = run.recorded(run.paths.scores(seed, "id_calibration")) or ""
        return cls(len(_scores(run, seed)), identity, layers, run, seed)

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
        layerwise = self.run.arrays(self.run.paths.layerwise(self.seed, "id_calibration"))
        names = list(range(int(self.run.meta["num_classes"])))
        return ClassRanks(_scores(self.run, self.seed), layerwise["predictions"], classes=names)

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
        return Monitor(
            self.classes.counts if by_class else self.n,
            alpha=alpha,
            run_length=run_length,
            layers=self.layers.names if layers and self.layers is not None else (),
            calibration=self.identity,
        )

    def has_layers(self, columns: Mapping[str, Any]) -> bool:
        """Whether a record has the surprise of every layer."""
        return self.layers is not None and all(BITS + name in columns for name in self.layers.names)


def _scores(run: RunDir, seed: int) -> np.ndarray:
    """(n,) scores of the calibration inputs."""
    return run.arrays(run.paths.scores(seed, "id_calibration"))[run.meta["primary_method"]]
