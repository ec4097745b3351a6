"""Saved: what a picture needs of a run directory, read from its files."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import cached_property
from hashlib import sha1
from pathlib import Path
from typing import Any

import numpy as np

from nervecode.errors import ArtifactError, InputError, did_you_mean
from nervecode.files import check_new
from nervecode.lab.results.tables import marks
from nervecode.lab.run.directory import RunDir, chosen_seed
from nervecode.viz.style import ID_COLOUR, ID_MARKER, SUFFIXES, colour, marker

Arrays = dict[str, np.ndarray]

TEXTS = ("layer",)  # columns that are no numbers
NAMED = 3  # OOD sets in the name of a picture of some of them


class Saved:
    """The files behind one picture: a run, one of its seeds, and some of its OOD sets.

    Args:
        run: the run directory.
        seed: None takes the first.
        ood: names of OOD sets; None takes all.

    Raises:
        InputError: no such run, seed or OOD set (the nearest name is shown).
        ArtifactError: the run has not come so far.
    """

    def __init__(
        self, run: Path, *, seed: int | None = None, ood: Sequence[str] | None = None
    ) -> None:
        self.run = RunDir(run)
        self.meta: dict[str, Any] = self.run.meta
        self.seed = chosen_seed(self.run, seed, "seed")
        self.groups: dict[str, str] = self.meta.get("ood_groups", {})
        for name in ood or ():
            if name not in self.groups:
                hint = did_you_mean(name, self.groups)
                raise InputError(f"OOD set: {self.run.home.name} has no {name!r}; {hint}")
        self.ood = list(self.groups) if ood is None else list(ood)

    def look(self, name: str) -> tuple[str, str]:
        """Colour and marker of a set: the same in every picture of the run, whatever it shows."""
        if name not in self.groups:
            return ID_COLOUR, ID_MARKER
        place = list(self.groups).index(name)
        return colour(place), marker(place)

    def layerwise(self, split: str) -> Arrays:
        """`layer_names` (L,) and `surprise` (N, L) of `id_test`, `id_calibration` or `ood_NAME`."""
        return self._npz(self.run.paths.layerwise(self.seed, split))

    @cached_property
    def standard(self) -> tuple[np.ndarray, np.ndarray]:
        """(L,) mean and deviation of the surprise of ID calibration.

        A layer that is constant is not scaled.
        """
        surprise = self.layerwise("id_calibration")["surprise"]
        deviation = surprise.std(0, dtype=np.float64)
        return surprise.mean(0, dtype=np.float64), np.where(deviation > 0, deviation, 1.0)

    def deviations(self, split: str) -> np.ndarray:
        """(N, L) surprise of a split in deviations of ID calibration from its mean."""
        centre, spread = self.standard
        values: np.ndarray = (self.layerwise(split)["surprise"] - centre) / spread
        return values

    def scores(self, split: str) -> Arrays:
        """Method -> (N,) scores of a split."""
        return self._npz(self.run.paths.scores(self.seed, split))

    def epochs(self, seed: int) -> Arrays:
        """Column -> (epochs,) of a seed's training metrics."""
        return self._csv(self.run.paths.metrics(seed))

    def codebooks(self) -> Arrays:
        """Column -> (epochs x layers,) of the diagnostics of learned codebooks.

        Raises:
            ArtifactError: no file, as where no signal of the run is learned.
        """
        path = self.run.paths.diagnostics(self.seed)
        if not path.is_file():
            raise ArtifactError(
                f"{path}: is missing; `nervecode bench` writes it where a signal has "
                "`recipe: v0_1_1`, the others learn no codebook"
            )
        return self._csv(path)

    def output(self, kind: str, output: Path | None, *, force: bool) -> Path:
        """Where the picture goes; the run's own `plots/` may be replaced, other files with force.

        Raises:
            InputError: an unknown suffix, a missing folder, or a file that exists.
        """
        if output is None:  # the page shows pictures of all sets
            return self.run.paths.plot(kind + self._part(), self.seed)
        check_new(Path(output), SUFFIXES, force=force)
        return Path(output)

    def _part(self) -> str:
        """Which of the OOD sets a picture shows, for its name; nothing where it shows all."""
        chosen = [name for name in self.groups if name in self.ood]
        if len(chosen) == len(self.groups):
            return ""
        rest = sha1("\0".join(chosen).encode()).hexdigest()[:6] if len(chosen) > NAMED else ""
        return "_" + "+".join([*chosen[:NAMED], *filter(None, [rest])])

    @property
    def stamp(self) -> str:
        """DEMO, TRANSFER, FAILED GATE, or nothing."""
        return " · ".join(marks(self.meta))

    def _npz(self, path: Path) -> Arrays:
        if not path.is_file():
            raise self.run.absent(path)
        return self.run.arrays(path)

    def _csv(self, path: Path) -> Arrays:
        if not path.is_file():
            raise self.run.absent(path)
        with self.run.verified(path).open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        try:
            return {
                key: np.array([row[key] if key in TEXTS else float(row[key]) for row in rows])
                for key in rows[0]
            }
        except (IndexError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: is damaged ({error})") from None
