"""CalibrationSet: what is known of the calibration behind the p-values of a scored file."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.run.directory import RunDir, chosen_seed
from nervecode.lab.watch.stored import StoredCalibration, read_calibration
from nervecode.monitor import ClassRanks, LayerRanks, Monitor
from nervecode.monitor.checks import as_rank

BITS = "bits:"  # and the layer: a column of a scored file
SLACK = 1e-3  # of a score: what float32, or a graph, may be off
FEW = 4  # digits: with more, what rounding takes away is within the slack


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
        seed = chosen_seed(run, seed)
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

    def has_layers(self, columns: Iterable[str]) -> bool:
        """Whether a record has the surprise of every layer; False where it has that of none.

        Raises:
            InputError: it has that of other layers, as of another run.
        """
        named = {name for name in columns if name.startswith(BITS)}
        if self.run is None or self.layers is None or not named:
            return False
        wanted = [BITS + name for name in self.layers.names]
        for name in [*wanted, *sorted(named)]:
            if name not in named:
                raise InputError(
                    f"no {name!r}, a layer of {self.run.root}; {did_you_mean(name, named)}"
                )
            if name not in wanted:
                raise InputError(
                    f"{name!r} is no layer of {self.run.root}; {did_you_mean(name, wanted)}"
                )
        return True

    def check(self, p_value: float, surprise: float, *, predicted: int | None = None) -> None:
        """Refuse a p-value that the score beside it does not have among these inputs.

        Args:
            p_value: of all classes together, or within the predicted class.
            surprise: the score.
            predicted: the class that the p-value is within.

        Raises:
            InputError: it does not, as where another run or seed scored.
        """
        if self._ordered is None or self.run is None:
            return
        score = math.inf if math.isnan(surprise) else surprise
        off = SLACK * (1 + abs(score)) if math.isfinite(score) else 0.0
        ranks = self._ranks(self._ordered, score, off, predicted)
        n = self.n if predicted is None else self.classes.counts[predicted]
        rank = as_rank("p_value", p_value, n)
        if rank in ranks:
            return
        hint = "allowed: the run and the seed that scored"
        digits = next((d for d in range(FEW) if round(score, d) == score), None)
        if digits is not None:
            off += 10.0**-digits / 2
            if rank in self._ranks(self._ordered, score, off, predicted):
                hint = f"the surprise looks rounded to {digits} digits: give all of them, or none"
        raise InputError(
            f"p_value: found {p_value:g}, but a surprise of {surprise:g} bits has "
            f"{ranks[0] / (n + 1):g} among the calibration inputs of {self.run.root}, "
            f"seed {self.seed}; {hint}"
        )

    def _ranks(self, ordered: np.ndarray, score: float, off: float, predicted: int | None) -> range:
        """The ranks k of the p-values k / (n + 1) of a score that is off by so much at most."""
        higher = len(ordered) - ordered.searchsorted([score + off, score - off])
        if predicted is None:
            low, high = (1 + higher).tolist()
        else:
            p_values = ((1 + higher) / (len(ordered) + 1)).tolist()
            n = self.classes.counts
            low, high = (
                as_rank("", self.classes.p_value(p, predicted), n[predicted]) for p in p_values
            )
        return range(low, high + 1)

    @cached_property
    def _ordered(self) -> np.ndarray | None:
        """(n,) calibration scores, sorted; None where they are not known."""
        if self.stored is None or self.stored.scores is None:
            return None
        return np.sort(self.stored.scores)


def _of_bench(run: RunDir, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(n,) scores and predicted classes of the calibration inputs, as `bench` has kept them."""
    scores = run.arrays(run.paths.scores(seed, "id_calibration"))[run.meta["primary_method"]]
    return scores, run.arrays(run.paths.layerwise(seed, "id_calibration"))["predictions"]
