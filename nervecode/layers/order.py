"""Order: whether the rows of a layer are in the order of the inputs, by one batch run backwards."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from nervecode.errors import InputError
from nervecode.layers.answer import answer_of
from nervecode.layers.hooks import has_others
from nervecode.layers.inputs import device_of
from nervecode.layers.last import Traces
from nervecode.layers.learned_coder import own_random_numbers
from nervecode.layers.own_call import OwnCall
from nervecode.layers.restored import UNTOUCHED, restored
from nervecode.layers.watched import Watched, eager

ALIKE = 0.01  # of the spread of the rows: what is nearer is the same but for rounding
APART = 0.05  # what is farther is another row
LOOKED_AT = 64  # rows that are looked for among all others


class Order:
    """What the layers said of the first batch of several inputs, until it is run backwards.

    A model that sorts its batch, as by length, and sorts its answer back has layers whose rows
    belong to other inputs than they stand for.
    """

    def __init__(self) -> None:
        self._call: OwnCall | None = None
        self._mask: Tensor | None = None
        self._size = 0
        self._answer: Tensor | None = None
        self._rows: dict[str, Tensor] = {}

    def keep(
        self, call: OwnCall, mask: Tensor | None, answer: Tensor | None, traces: Traces
    ) -> None:
        """Keep the call of a batch that was calibrated on, and its answer, if it is the first."""
        size = traces.call.size or 0
        if self._call is not None or size < 2 or call.number != 1:
            return
        self._call, self._mask, self._size, self._answer = call, mask, size, answer
        self._rows = _rows(traces.layers, size)

    def broken(self, watched: Watched) -> list[str]:
        """The layers whose rows are those of other inputs.

        The model is called once more, with its arguments in reverse, which changes neither random
        numbers nor the model. Nothing is said where the model cannot run so, where its own answer
        does not follow, where it holds what `restored` cannot put back, or where others have
        hooks, which would see that call.
        """
        model = eager(watched.model)
        if self._call is None or has_others(model):
            return []
        mask = None if self._mask is None else self._mask.flip(0)
        try:
            with (
                own_random_numbers(device_of(model)),
                restored(model),
                watched.recording(mask=mask) as layers,
            ):
                args = backwards(self._call.args, self._size)
                output = model(*args, **backwards(self._call.kwargs, self._size))
                answer = answer_of(output, watched.answer_path, watched.answer_width)
            if not _follows(self._answer, answer, self._size):
                return []
            after = _rows(layers, self._size)
            return [
                name
                for name, rows in self._rows.items()
                if name in after and _are_of_others(rows, after[name].flip(0))
            ]
        except Exception:  # of a batch that the model was never given: no error of the user's
            return []


def _follows(before: Tensor | None, after: Tensor | None, size: int) -> bool:
    """Whether one answer is that of the same inputs as another, in reverse."""
    if before is None or after is None or len(before) != size or len(after) != size:
        return False
    before, after = (answer.double().reshape(size, -1) for answer in (before, after))
    spread = _spread(before)
    turned = (after.flip(0) - before).norm(dim=1) <= ALIKE * spread
    return bool(turned.all() and ((after - before).norm(dim=1) > APART * spread).any())


def _rows(layers: Mapping[str, Any], size: int) -> dict[str, Tensor]:
    """Layer -> (B, D) what it says of each input, in all places together."""
    return {
        name: trace.vector.detach().double().reshape(size, -1)
        for name, trace in layers.items()
        if trace.inputs == size
    }


def _are_of_others(before: Tensor, after: Tensor) -> bool:
    """Whether rows (B, D) that are no longer where they were are all elsewhere among them."""
    spread = _spread(before)
    moved = ((after - before).norm(dim=1) > APART * spread).nonzero()[:LOOKED_AT, 0]
    if not len(moved):
        return False
    distances = torch.cdist(after[moved], before, compute_mode="donot_use_mm_for_euclid_dist")
    return bool((distances.amin(dim=1) <= ALIKE * spread).all())


def _spread(rows: Tensor) -> Tensor:
    """() the mean distance of rows from their mean."""
    distances: Tensor = torch.linalg.vector_norm(rows - rows.mean(0), dim=1)
    return distances.mean()


def backwards(value: Any, size: int) -> Any:
    """Arguments of a call with their `size` inputs in reverse.

    Raises:
        InputError: a packed or nested sequence, or an object, which the call may change.
    """
    if isinstance(value, PackedSequence) or (isinstance(value, Tensor) and value.is_nested):
        raise InputError("found a ragged sequence, whose inputs are not turned round")
    if isinstance(value, Tensor):
        dim = next((dim for dim in (0, 1) if value.shape[dim : dim + 1] == (size,)), None)
        return value.clone() if dim is None else value.flip(dim)
    if isinstance(value, Mapping):
        return {key: backwards(part, size) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        if len(value) == size and not any(_has_rows(part, size) for part in value):
            return type(value)(reversed(value))
        parts = [backwards(part, size) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    if not isinstance(value, UNTOUCHED):
        raise InputError(f"found {type(value).__name__}, which is not turned round")
    return value


def _has_rows(value: Any, size: int) -> bool:
    return isinstance(value, Tensor) and value.shape[:1] == (size,)
