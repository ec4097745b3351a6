"""Setting: the finished cells of one config, one a seed, and how far `nervecode` is ahead in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from nervecode.lab.detectors.registry import DETECTORS
from nervecode.lab.results.rows import Row, group_means, headlines, over_seeds
from nervecode.lab.results.statistics import Interval, around
from nervecode.lab.schema import PRIMARY, Config
from nervecode.lab.study.oracle import STATUS
from nervecode.lab.study.records import CellRecord

# Kind of data -> the sets of that kind; others are pictures.
KINDS = {
    "tables": {
        "table", "wine", "breast_cancer", "blobs", "letter", "satellite", "shuttle", "vehicle",
        "vowel",
    },
    "series": {
        "series", "japanese_vowels", "basic_motions", "osu_leaf", "acsf1", "arrow_head",
        "pickup_gesture",
    },
    "texts": {"fortunes"},
}  # fmt: skip


@dataclass(frozen=True)
class Setting:
    """A setting of which cells are finished. AUROC is x100; a score is the mean of near and far, or
    far alone.

    Attributes:
        name: in the plan.
        role: `development` where its figures were seen while the signal was chosen.
        config: of its cells.
        records: what each finished cell left.
        note: what a reader of its figures should know.
        absent: seed of the plan -> why it is not among them.
    """

    name: str
    role: str
    config: Config
    records: Sequence[CellRecord] = field(repr=False)
    note: str = ""
    absent: Mapping[int, str] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Its name, and what is to be known wherever its figures stand."""
        part = f" ({len(self.records)} of {len(self.records) + len(self.absent)} seeds)"
        return self.name + " TRANSFER" * self.config.transferred + part * bool(self.absent)

    @property
    def remarks(self) -> str:
        """Hyperparameters of signal and detectors that are not the usual ones, and its note."""
        bench, signal = self.config.bench, self.config.signals.get(PRIMARY)
        options: dict[str, Mapping[str, object]] = {
            PRIMARY: signal.model_dump(exclude_defaults=True) if signal else {},
            **{name: some for name, some in bench.options.items() if name in bench.detectors},
        }
        told = [
            f"`{name}` with " + ", ".join(f"{key} = {value}" for key, value in some.items())
            for name, some in options.items()
            if some
        ]
        return "; ".join([*told, self.note] if self.note else told)

    @property
    def kind(self) -> str:
        """Which kind of data it has, and whether those pass through a transferred network."""
        data = self.config.data.id.partition(":")[0]
        kind = next((kind for kind, sets in KINDS.items() if data in sets), "pictures")
        return kind + ", TRANSFER" * self.config.transferred

    @cached_property
    def rows(self) -> list[Row]:
        """Those of all its cells."""
        return [row for record in self.records for row in record.rows]

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
    def oracles(self) -> dict[str, float]:
        """Combination that has seen OOD data -> its score."""
        rows = [{**row, "status": "ok"} for row in self.rows if row["status"] == STATUS]
        return {m: 100 * over_seeds(seeds.values())[0] for m, seeds in headlines(rows).items()}

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
        return {record.seed: record.accuracy for record in self.records}

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

    def ahead(self, other: str, group: str | None = None, method: str = PRIMARY) -> float:
        """Points of a method above another, over the seeds in which both have a figure."""
        return over_common_seeds(self.seeds(method, group), self.seeds(other, group))

    def best(self, group: str | None = None) -> str:
        """The single baseline that `nervecode` is least ahead of."""
        return min(
            [m for m in self.baselines if self.has(m, group)], key=lambda m: self.ahead(m, group)
        )

    def lead(self, other: str, group: str | None = None) -> Interval:
        """Points of `nervecode` above a method in score or near, with the interval over inputs.

        Every seed meets the same test inputs, so that the errors of the seeds may be one and the
        same: their mean bounds that of the mean lead, however they depend on each other.
        """
        seeds = self.seeds(other, group)
        errors = [r.errors[other][group or "score"] for r in self.records if r.seed in seeds]
        return around(self.ahead(other, group), float(np.mean(errors)))


def over_common_seeds(ours: Mapping[int, float], theirs: Mapping[int, float]) -> float:
    """The mean of what one figure a seed is above another; NaN where they share no seed."""
    both = ours.keys() & theirs.keys()
    return float(np.mean([ours[seed] - theirs[seed] for seed in both])) if both else float("nan")
