"""Setting: the finished runs of one config, one a seed, and how far `nervecode` is ahead in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.results.rows import Row, group_means, headlines, over_seeds, read_rows
from nervecode.lab.results.statistics import Interval, interval, paired_inputs, placements
from nervecode.lab.run.directory import RunDir
from nervecode.lab.schema import PRIMARY, Config


@dataclass(frozen=True)
class Setting:
    """A finished setting. AUROC is x100; a score is the mean of near and far, or far alone.

    Attributes:
        name: in the plan.
        role: `development` where its figures were seen while the signal was chosen.
        runs: seed -> its run.
        rows: of those runs.
        note: what a reader of its figures should know.
    """

    name: str
    role: str
    runs: Mapping[int, RunDir]
    rows: list[Row] = field(repr=False)
    note: str = ""

    @classmethod
    def of(cls, name: str, role: str, runs: Mapping[int, RunDir], note: str = "") -> Setting:
        """Read the rows of finished runs.

        Raises:
            ArtifactError: a file is missing or damaged.
        """
        rows = [row for run in runs.values() for row in read_rows(run)["rows"]]
        return cls(name, role, runs, rows, note)

    @property
    def config(self) -> Config:
        """The config, with the first seed alone."""
        return next(iter(self.runs.values())).config

    @property
    def split_sizes(self) -> dict[str, int]:
        """Split -> how many inputs it has, the same for every seed."""
        sizes: dict[str, int] = next(iter(self.runs.values())).meta["split_sizes"]
        return sizes

    def scored(self, seed: int, split: str) -> dict[str, np.ndarray]:
        """Method -> scores of a split."""
        run = self.runs[seed]
        return run.arrays(run.paths.scores(seed, split))

    @cached_property
    def groups(self) -> dict[str, dict[str, dict[int, float]]]:
        """Method -> group -> seed -> AUROC in [0, 1]."""
        return group_means(self.rows)

    @cached_property
    def scores(self) -> dict[str, dict[int, float]]:
        """Method -> seed -> score in [0, 1]."""
        both = headlines(self.rows)
        return both or {m: groups["far"] for m, groups in self.groups.items() if "far" in groups}

    @cached_property
    def sets(self) -> dict[str, str]:
        """OOD set -> its group."""
        return {row["ood"]: row["group"] for row in self.rows}

    @property
    def has_near(self) -> bool:
        """Whether anything near is in it; only then does it count in the averages."""
        return "near" in self.sets.values()

    @property
    def accuracies(self) -> dict[int, float]:
        """Seed -> ID test accuracy in percent."""
        return {
            seed: 100 * float(run.meta["gate"]["accuracy"][str(seed)])
            for seed, run in self.runs.items()
        }

    @property
    def accuracy(self) -> float:
        """Their mean."""
        return float(np.mean(list(self.accuracies.values())))

    @cached_property
    def failures(self) -> dict[str, str]:
        """Baseline -> why it has no figure for some seed."""
        return {row["method"]: row["reason"] for row in self.rows if row["status"] == "failed"}

    @property
    def baselines(self) -> list[str]:
        """The single baselines with a figure for some seed."""
        return [m for m in self.scores if m in DETECTORS]

    def has(self, method: str, group: str | None = None) -> bool:
        """Whether a method has a figure for some seed."""
        return method in self.scores and (group is None or group in self.groups[method])

    def seeds(self, method: str, group: str | None = None) -> dict[int, float]:
        """Seed -> score, or AUROC of a group."""
        figures = self.scores[method] if group is None else self.groups[method][group]
        return {seed: 100 * value for seed, value in figures.items()}

    def mean(self, method: str, group: str | None = None) -> float:
        """Score or AUROC of a group, mean over seeds."""
        return over_seeds(self.seeds(method, group).values())[0]

    def std(self, method: str, group: str | None = None) -> float:
        """Its standard deviation over seeds."""
        return over_seeds(self.seeds(method, group).values())[1]

    def ahead(self, other: str, group: str | None = None) -> float:
        """Points of `nervecode` above a method, over the seeds in which that has a figure."""
        ours, theirs = self.seeds(PRIMARY, group), self.seeds(other, group)
        return float(np.mean([ours[seed] - theirs[seed] for seed in theirs]))

    def best(self, group: str | None = None) -> str:
        """The single baseline that `nervecode` is least ahead of."""
        return min(
            [m for m in self.baselines if self.has(m, group)], key=lambda m: self.ahead(m, group)
        )

    def lead(self, other: str) -> Interval:
        """Points of `nervecode` above a method, with the interval over inputs.

        Every seed meets the same test inputs, so one draw of inputs serves all of them.
        """
        draws = np.mean([self._draws(seed, other) for seed in self.scores[other]], axis=0)
        return interval(100 * draws)

    def _draws(self, seed: int, other: str) -> np.ndarray:
        counted = ("near", "far") if self.has_near else ("far",)
        members = {g: [s for s, group in self.sets.items() if group == g] for g in counted}
        weights = {s: 1 / len(counted) / len(members[g]) for g in counted for s in members[g]}
        inside = self.scored(seed, "id_test")
        parts: tuple[dict[str, Any], dict[str, Any]] = ({}, {})
        for name in weights:
            outside = self.scored(seed, f"ood_{name}")
            for part, method in zip(parts, (PRIMARY, other), strict=True):
                part[name] = placements(inside[method], outside[method])
        return paired_inputs(*parts, weights)
