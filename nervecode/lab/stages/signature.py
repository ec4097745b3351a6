"""Signature: what the network of a run takes and tells apart, known without its data."""

from __future__ import annotations

from dataclasses import dataclass

from nervecode.lab.data.samples import Shape
from nervecode.lab.data.splits import build_splits
from nervecode.lab.run.directory import RunDir


@dataclass(frozen=True)
class Signature:
    """What a network was made for.

    Attributes:
        shape: of one input.
        classes: by their names or by the numbers they have in the set, in the order of the logits.
    """

    shape: Shape
    classes: tuple[int | str, ...]

    @classmethod
    def of(cls, run: RunDir) -> Signature:
        """That of a run whose data were read; its metadata have it, so that no data is needed.

        Raises:
            InputError: a run of before the metadata had it, whose data are not there.
        """
        if "input_shape" in run.meta:
            return cls(tuple(run.meta["input_shape"]), tuple(run.meta["classes"]))
        splits = build_splits(run.config.data)
        return cls(splits.shape, tuple(run.meta.get("classes", splits.classes)))
