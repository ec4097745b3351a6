"""CallBatch: how many inputs the call in progress has, and which of their positions are real."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from nervecode.core import BatchShape
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.layers.call import Arguments


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
    """

    def __init__(self, arguments: Mapping[str, Arguments], mask: Tensor | None = None) -> None:
        self._arguments = arguments
        self._mask = mask
        self._depth = 0  # of the model's calls in progress
        self._call = self.now = BatchShape(mask=mask)
        self.masked = mask is not None
        self._part: str | None = None  # that was told last
        self._before: set[str] = set()  # layers that ran before a part was told
        self._shifts = False  # the text of the call into its decoder

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
        self._part, self._before, self.masked = None, set(), False
        self._shifts = model.shifts_its_text(args, kwargs)
        self._call = self.now = self._masked(model.batch(args, kwargs))

    def _tell(
        self, name: str, part: Arguments, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        if part.attends_elsewhere(args, kwargs):
            return
        another = part.reads_another(args, kwargs) and not self._shifts
        told = self._call._replace(mask=None) if another else self._call
        self.now, self._part = self._masked(told, part.mask(args, kwargs)), name

    def _masked(self, batch: BatchShape, mask: Tensor | None = None) -> BatchShape:
        """A batch with the mask that was given, or else a new one, or else its own."""
        known = next((m for m in (self._mask, mask) if m is not None), batch.mask)
        self.masked = self.masked or known is not None
        return batch._replace(mask=known)


def _is_within(layer: str, part: str) -> bool:
    return f"{layer}.".startswith(f"{part}.")
