"""CalibrationSet: what is known of the calibration behind the p-values of a scored file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        classes: ranks within the predicted class, where they are asked for.
    """

    n: int
    identity: str = ""
    layers: LayerRanks | None = None
    classes: ClassRanks | None = None

    @classmethod
    def of_run(
        cls, root: Path, *, seed: int | None = None, by_class: bool = False
    ) -> CalibrationSet:
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
        path = run.paths.scores(seed, "id_calibration")
        scores = run.arrays(path)[run.meta["primary_method"]]
        layerwise = run.arrays(run.paths.layerwise(seed, "id_calibration"))
        names = [str(name) for name in layerwise["layer_names"]]
        layers = LayerRanks(dict(zip(names, layerwise["surprise"].T, strict=True)))
        classes = None
        if by_class:
            known = list(range(int(run.meta["num_classes"])))
            classes = ClassRanks(scores, layerwise["predictions"], classes=known)
        return cls(len(scores), run.recorded(path) or "", layers, classes)

    def monitor(self, *, alpha: float | None, run_length: float | None, layers: bool) -> Monitor:
        """A monitor of p-values against this set, of its layers too where they are scored."""
        return Monitor(
            self.classes.counts if self.classes is not None else self.n,
            alpha=alpha,
            run_length=run_length,
            layers=self.layers.names if layers and self.layers is not None else (),
            calibration=self.identity,
        )

    def has_layers(self, columns: Mapping[str, Any]) -> bool:
        """Whether a record has the surprise of every layer."""
        return self.layers is not None and all(BITS + name in columns for name in self.layers.names)
