"""Dataset: a labelled set as its publisher made it, in memory or as pictures in files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.data.image_files import ImageFiles
from nervecode.lab.data.samples import Samples
from nervecode.lab.data.seen import Seen

if TYPE_CHECKING:
    from pandas import DataFrame

WHOLE = re.compile(r"[-+]?\d+")


@dataclass(frozen=True)
class Dataset:
    """A labelled set in memory.

    Attributes:
        train: the training part, or all there is.
        test: the published test part; None where there is one part.
        calibration: the calibration part; None where it is cut from another.
        classes: the names of classes 0, 1, …; none where the numbers are the names.
        table: columns that are not encoded yet; inputs are the numbers of its rows then.
        seen: what is to be told of the inputs.
    """

    train: Samples
    test: Samples | None = None
    calibration: Samples | None = None
    classes: tuple[str, ...] = ()
    table: DataFrame | None = None
    seen: Seen = field(default_factory=Seen)

    def numbers(self) -> list[int]:
        """The numbers of all classes, in order."""
        if self.classes:
            return list(range(len(self.classes)))
        return sorted(set(self.train.labels.tolist()))

    def name(self, number: int) -> str:
        """The name of a class."""
        return self.classes[number] if self.classes else str(number)

    def find(self, classes: Iterable[int | str], *, source: str) -> list[int]:
        """The numbers of classes, each given by its name or its number; a name comes first.

        Where names are whole numbers, these are names alone: class 1 of 2, 4 and 6 is none, not 4.

        Raises:
            InputError: a class that the set does not have; the message begins with `source`.
        """
        numbers = self.numbers()
        named = {self.name(number): number for number in numbers}
        by_name = any(map(WHOLE.fullmatch, named))
        wanted = []
        for given in classes:
            number = named.get(str(given), None if by_name else given)
            if not isinstance(number, int) or number not in numbers:
                allowed = f"allowed: {', '.join(named)}"
                hint = did_you_mean(str(given), named) if self.classes else allowed
                parted = next((n for n in named if "," in n and str(given) in n), None)
                if parted:
                    hint += f"; a comma is quoted: -o '{source.split(':')[0]}=[\"{parted}\"]'"
                raise InputError(f"{source} has no class {given}; {hint}")
            wanted.append(number)
        return wanted


@dataclass(frozen=True)
class ImageDataset:
    """The same as `Dataset`, of pictures that are decoded once their size is known."""

    train: ImageFiles
    test: ImageFiles | None = None
    classes: tuple[str, ...] = ()
    seen: Seen = field(default_factory=Seen)
