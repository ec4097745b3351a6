"""CallBatch: how many inputs the call in progress has, and which of their positions are real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nervecode.core import BatchShape
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.layers.batch.arguments import Arguments, has_lengths
from nervecode.layers.batch.part_mask import fitting_mask_of, is_of_pieces


class CallBatch:
    """What the arguments of a model's call, and of its parts, tell of the batch as it runs.

    The outermost call counts the inputs: a model that calls itself, on pieces of its batch or on
    several views of each input, does not change how many it was given. What a part is told of
    padding holds from there on, but for layers outside of it that ran before: these read another
    sequence now, and are read as they were then.

    Args:
        arguments: of the model, of no name, and of the parts that it may tell of padding.
        mask: the real positions, whatever the arguments say of them.

    Attributes:
        now: what was told last.
        masked: whether any of it was of padding.
        certain: whether any of that is surely of padding.
    """

    def __init__(self, arguments: Mapping[str, Arguments], mask: Tensor | None = None) -> None:
        self._arguments = arguments
        self._mask = mask
        self._depth = 0  # of the model's calls in progress
        self._call = self.now = BatchShape(mask=mask)
        self.masked = self.certain = mask is not None
        self._part: str | None = None  # that was told last
        self._told: dict[str, BatchShape] = {}  # by part
        self._before: set[str] = set()  # layers that ran before a part was told
        self._shifts = False  # the text of the call, or of a part, into its decoder

    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model, or a part of it that may be told of padding, is called."""
        if not name:
            self._depth += 1
        try:
            if not name and self._depth == 1:
                self._begin(self._arguments[name], args, kwargs)
            else:
                self._tell(name, self._arguments[name], args, kwargs)
        except Exception:
            self.now = UNKNOWN_SHAPE

    def end(self) -> None:
        """A call of the model has ended."""
        self._depth = max(0, self._depth - 1)

    def of(self, layer: str) -> BatchShape:
        """What is known of the batch of a layer that has run."""
        if len(self._arguments) == 1:  # most models have no such parts
            return self.now
        if self._part is None:
            self._before.add(layer)
        elif self._part and layer in self._before and not _is_within(layer, self._part):
            return self._call
        return self.now

    def _begin(self, model: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._part, self._told, self._before = None, {}, set()
        self.masked = self.certain = False
        self._shifts = model.shifts_its_text(args, kwargs)
        self._call = self.now = self._settled(model.batch(args, kwargs))
        if any(map(has_lengths, (*args, *kwargs.values()))):
            self.masked = self.certain = True

    def _tell(
        self, name: str, part: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if part.attends_elsewhere(args, kwargs):
            return
        if part.decodes:
            model = self._arguments[""]
            self._shifts = part.shifts_its_text(args, kwargs) or (model.decodes and self._shifts)
        told = self._around(name)
        if part.reads_another(args, kwargs) and not self._shifts:
            told = told._replace(mask=None, tentative=False)
        if part.is_believed:
            mask = part.mask(args, kwargs)
            if part.reads_ids and mask is not None and is_of_pieces(mask, self._call):
                return
            told = told if mask is None else told._replace(mask=mask, tentative=False)
        else:
            texts_only = self._arguments[""].reads_ids and self._call.mask is not None
            found = fitting_mask_of(part, args, kwargs, self.now, texts_only=texts_only)
            if found is None and name not in self._told:
                return  # what was told before holds on
            told = found or told
        self.now = self._told[name] = self._settled(told)
        self._part = name

    def _around(self, name: str) -> BatchShape:
        """What was told to the innermost part around a part; of the call where there is none."""
        while name := name.rpartition(".")[0]:
            if name in self._told:
                return self._told[name]
        return self._call

    def _settled(self, batch: BatchShape) -> BatchShape:
        """A batch with the mask that the caller gave, if any."""
        if self._mask is not None:
            batch = batch._replace(mask=self._mask, tentative=False)
        if batch.mask is not None:
            self.masked, self.certain = True, self.certain or not batch.tentative
        return batch


def _is_within(layer: str, part: str) -> bool:
    return f"{layer}.".startswith(f"{part}.")
