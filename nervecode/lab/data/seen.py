"""Seen: what is met while inputs are read, and is told."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

SHOWN = 5  # columns that a remark names
UNENCODED = (
    "is an array, whose rows are taken as encoded already, numbers standardised as those of ID "
    "train; a .csv, .tsv or .parquet file is encoded by the names of its columns"
)


@dataclass
class Seen:
    """What a user should know of the inputs of a set.

    Attributes:
        missing: column of a table -> how many numbers were missing.
        unseen: column of a table -> how many categories ID train lacks.
        rounded: columns or channels of an array whose numbers float32 does not tell apart.
        passed: suffix, or place -> how many files and folders of pictures are passed over.
        doubts: sentences about arrays that may not be what they are taken for.
    """

    missing: Counter[str] = field(default_factory=Counter)
    unseen: Counter[str] = field(default_factory=Counter)
    passed: Counter[str] = field(default_factory=Counter)
    rounded: list[str] = field(default_factory=list)
    doubts: list[str] = field(default_factory=list)

    def remarks(self, name: str) -> list[str]:
        """Sentences about a set."""
        missing = _listed(self.missing)
        unseen = _listed(self.unseen)
        rounded = _shortened(list(dict.fromkeys(self.rounded)))
        passed = _shortened([f"{n:,} {suffix}" for suffix, n in self.passed.most_common() if n])
        return [
            *([f"{name}: files and folders that are passed over: {passed}"] if passed else []),
            *(f"{name}: {doubt}" for doubt in dict.fromkeys(self.doubts)),
            *(
                [
                    f"{name}: numbers that differ are one in float32, which inputs are: {rounded}; "
                    "less an offset, they stay apart"
                ]
                if rounded
                else []
            ),
            *(
                [f"{name}: missing numbers, taken as the mean of ID train: {missing}"]
                if missing
                else []
            ),
            *(
                [f"{name}: categories that ID train lacks, taken as zeros: {unseen}"]
                if unseen
                else []
            ),
        ]


def _listed(counts: Counter[str]) -> str:
    """The columns with the highest counts, and how many more there are."""
    return _shortened([f"{count:,} in {name!r}" for name, count in counts.most_common() if count])


def _shortened(columns: Sequence[str]) -> str:
    shown, more = ", ".join(columns[:SHOWN]), len(columns) - SHOWN
    return f"{shown} and others in {more} more columns" if more > 0 else shown
