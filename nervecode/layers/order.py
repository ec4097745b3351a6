"""Order: whether the rows of a layer are in the order of the inputs, by one batch run backwards."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nervecode.errors import InputError
from nervecode.layers.answer import answer_of
from nervecode.layers.batches import Batch
from nervecode.layers.last import Traces
from nervecode.layers.learned_coder import own_random_numbers
from nervecode.layers.restored import restored
from nervecode.layers.watched import Watched, device_of, eager

ALIKE = 0.01  # of the spread of the rows: what is nearer is the same but for rounding
APART = 0.05  # what is farther is another row
LOOKED_AT = 64  # rows that are looked for among all others


class Order:
    """What the layers said of the first batch of several inputs, until it is run backwards.

    A model that sorts its batch, as by length, and sorts its answer back has layers whose rows
    belong to other inputs than they stand for.
    """

    def __init__(self) -> None:
        self._batch: Batch | None = None
        self._size = 0
        self._answer: Tensor | None = None
        self._rows: dict[str, Tensor] = {}

    def keep(self, batch: Batch, answer: Tensor | None, traces: Traces) -> None:
        """Keep a batch that was calibrated on, and what the model answered, if it is the first."""
        size = traces.call.size or 0
        if self._batch is not None or size < 2:
            return
        self._batch, self._size, self._answer = batch, size, answer
        self._rows = _rows(traces.layers, size)

    def broken(self, watched: Watched) -> list[str]:
        """The layers whose rows are those of other inputs.

        The batch is run once more, in reverse, which changes neither random numbers nor the model.
        Nothing is said where the model cannot run so, or where its own answer does not follow.
        """
        if self._batch is None:
            return []
        mask = None if self._batch.mask is None else self._batch.mask.flip(0)
        model = eager(watched.model)
        try:
            with (
                own_random_numbers(device_of(model)),
                restored(model),
                _backwards(model, self._size),
                watched.recording(mask=mask) as layers,
            ):
                answer = answer_of(self._batch.run(), watched.answer_path)
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


@contextmanager
def _backwards(model: nn.Module, size: int) -> Iterator[None]:
    """Within it, this thread's calls of a model have their inputs in reverse."""
    thread = threading.get_ident()

    def turn(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if threading.get_ident() != thread:
            return None
        return backwards(args, size), backwards(kwargs, size)

    # First of all hooks: what watches the call is told of the inputs as they are then.
    handle = model.register_forward_pre_hook(turn, with_kwargs=True, prepend=True)
    try:
        yield
    finally:
        handle.remove()


def backwards(value: Any, size: int) -> Any:
    """Arguments of a call with their `size` inputs in reverse.

    Raises:
        InputError: a packed or nested sequence.
    """
    if isinstance(value, PackedSequence) or (isinstance(value, Tensor) and value.is_nested):
        raise InputError("found a ragged sequence, whose inputs are not turned round")
    if isinstance(value, Tensor):
        dim = next((dim for dim in (0, 1) if value.shape[dim : dim + 1] == (size,)), None)
        return value if dim is None else value.flip(dim)
    if isinstance(value, Mapping):
        return {key: backwards(part, size) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        if len(value) == size and not any(_has_rows(part, size) for part in value):
            return type(value)(reversed(value))
        parts = [backwards(part, size) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _has_rows(value: Any, size: int) -> bool:
    return isinstance(value, Tensor) and value.shape[:1] == (size,)
