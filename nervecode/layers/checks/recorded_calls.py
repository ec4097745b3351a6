"""CallRecorder: the calls of a calibration that are run once more, and their results."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.layers.batch.answer import answer_of
from nervecode.layers.batch.inputs import device_of
from nervecode.layers.batch.model_call import ModelCall
from nervecode.layers.batch.padded_ends import lengths
from nervecode.layers.batch.picking import joined, picked, shapes, shapes_of_one
from nervecode.layers.guard.restored import own_random_numbers, restored
from nervecode.layers.last_traces import Traces
from nervecode.layers.watched import Watched, eager

MOST = 8  # inputs that are put together
ALIKE = 4  # of them of one shape


class CallResult(NamedTuple):
    """The result of a call of B inputs.

    Attributes:
        answer: what the model answered; None where its output does not tell.
        rows: layer -> (B, D) what it says of each input, in all places together.
        surprise: layer -> (B, places) its surprise.
    """

    answer: Tensor | None
    rows: Mapping[str, Tensor]
    surprise: Mapping[str, Tensor]

    @classmethod
    def of(cls, answer: Tensor | None, layers: Mapping[str, CodingTrace], size: int) -> CallResult:
        """What the traces of a call of `size` inputs say."""
        own = {name: trace for name, trace in layers.items() if trace.inputs == size}
        return cls(
            answer.detach() if answer is not None and answer.shape[:1] == (size,) else None,
            {n: trace.vector.detach().double().reshape(size, -1) for n, trace in own.items()},
            {n: trace.surprise.detach().double().reshape(size, -1) for n, trace in own.items()},
        )

    def with_repeat(self, other: CallResult) -> CallResult:
        """With what came of the same call once more."""
        rows = {n: torch.cat([own, other.rows[n]]) for n, own in self.rows.items()}
        return self._replace(rows=rows)

    def of_first_input(self) -> CallResult:
        """What came of the first input."""
        # Copies: a part of a tensor would hold the whole of it.
        parts = [{n: values[:1].clone() for n, values in part.items()} for part in self[1:]]
        return CallResult(None if self.answer is None else self.answer[:1].clone(), *parts)


class RecordedCall(NamedTuple):
    """A call of the model.

    Attributes:
        given: its arguments, by position and by name.
        mask: (B, ...) the real positions, where they were given separately, as `mask=`.
        size: B.
        masked: whether anything told of padding.
        precision: what it ran within.
        result: what came of it.
        shared: the arguments that all inputs have in common, whatever their shape.
    """

    given: dict[int | str, Any]
    mask: Tensor | None
    size: int
    masked: bool
    precision: AbstractContextManager[Any]
    result: CallResult
    shared: frozenset[int | str] = frozenset()

    def select(self, inputs: Sequence[int]) -> RecordedCall:
        """The same with some inputs alone, and what came of it as it was."""
        given = self.given | picked(self.unshared, self.size, inputs)
        mask = picked(self.mask, self.size, inputs)
        return self._replace(given=given, mask=mask, size=len(inputs))

    def changed(self, change: Callable[[Any], Any], size: int) -> RecordedCall:
        """The same with changed arguments, of as many inputs."""
        return self._replace(given=change(self.given), mask=change(self.mask), size=size)

    @property
    def unshared(self) -> dict[int | str, Any]:
        """The arguments that are not shared."""
        return {key: value for key, value in self.given.items() if key not in self.shared}

    @property
    def shape(self) -> tuple[Any, ...]:
        """The shapes of its own arguments."""
        return shapes(self.unshared)

    def replay(self, watched: Watched, *, drawn: int = 0) -> CallResult:
        """What comes of such a call now, which changes neither random numbers nor the model.

        Args:
            watched: the model.
            drawn: how many random numbers are passed over, so that the model draws others.

        Raises:
            Exception: whatever a model raises for a call that it was never given.
        """
        model = eager(watched.model)
        with (
            own_random_numbers(device_of(model)),
            restored(model),
            watched._remarks.muted(),
            self.precision,
            watched.recording(mask=self.mask) as layers,
        ):
            _draw(drawn, device_of(model))
            args = [value for key, value in self.given.items() if isinstance(key, int)]
            kwargs = {key: value for key, value in self.given.items() if isinstance(key, str)}
            output = model(*args, **kwargs)
        answer = answer_of(output, watched.answer_path, watched.answer_width)
        return CallResult.of(answer, layers, self.size)


def _is_same_tensor(one: Any, other: Any) -> bool:
    """Whether two calls were given the same tensor, and not two of the same values."""
    if not isinstance(one, Tensor) or not isinstance(other, Tensor):
        return False
    if one is other or one.is_nested or one.layout != torch.strided:
        return one is other
    return one.shape == other.shape and 0 != one.data_ptr() == other.data_ptr()


def _draw(number: int, device: torch.device) -> None:
    """Draw random numbers of PyTorch, Python and NumPy."""
    torch.rand(number, device=device)
    torch.rand(number)
    np.random.rand(number)
    for _ in range(number):
        random.random()


class CallRecorder:
    """Keeps the calls of a calibration of which something can be learned.

    Attributes:
        batch: that of several inputs which differ most in length, as far as it can be seen; of as
            many lengths the first.
        singles: first inputs of batches: of one input, or of other shapes than those before.
        shapes: those of all batches, but for the number of inputs.
        one_by_one: whether all batches were of one input.
    """

    def __init__(self) -> None:
        self.batch: RecordedCall | None = None
        self.singles: list[RecordedCall] = []
        self.shapes: set[Any] = set()
        self.one_by_one = True
        self._variety = 0, 0
        self._first: RecordedCall | None = None
        self._shared: frozenset[int | str] | None = None  # until a second call tells

    @property
    def varied(self) -> bool:
        """Whether the inputs of the batch differ in length, as far as it can be seen."""
        return self._variety[0] > 1

    def record(
        self, call: ModelCall, mask: Tensor | None, answer: Tensor | None, traces: Traces
    ) -> None:
        """Keep the call of a batch that was calibrated on, if it is worth it.

        A call whose inputs cannot be picked is none.
        """
        size = traces.call.size or 0
        self.one_by_one = self.one_by_one and size == 1
        if not size or call.number != 1 or call.written_to:
            return
        masked = traces.call.masked
        given = dict[int | str, Any](enumerate(call.args)) | call.kwargs
        seen = RecordedCall(given, mask, size, masked, call.precision, CallResult(None, {}, {}))
        self._compare(seen)
        seen = seen._replace(shared=self._shared or frozenset())
        try:
            shape, found = shapes_of_one(seen.unshared, size), lengths(seen.unshared, size)
            alike = sum(single.shape == shape for single in self.singles)
            is_single = len(self.singles) < MOST and alike < (ALIKE if size == 1 else 1)
            is_batch = size > 1 and found > self._variety
            self.shapes.add(shape)
            if not is_single and not is_batch:  # as most are, of which nothing is copied
                return
            first = seen.select([0])
        except Exception:  # of tensors of another kind, or inputs that cannot be picked
            return
        result = CallResult.of(answer, traces.layers, size)
        if is_single:
            self.singles.append(first._replace(result=result.of_first_input()))
        if is_batch:
            self.batch, self._variety = seen._replace(result=result), found
        self._first = self._first or seen._replace(result=result)

    def _compare(self, call: RecordedCall) -> None:
        """Learn which arguments are shared, of the first two calls with other inputs."""
        first = self._first
        if first is None or self._shared is not None or first.given.keys() != call.given.keys():
            return
        pairs = {key: (first.given[key], call.given[key]) for key in call.given}
        same = frozenset(key for key, pair in pairs.items() if _is_same_tensor(*pair))
        if same == call.given.keys():
            return
        self._shared, self._first = same, None
        if same and self.batch is not None:
            self.batch = self.batch._replace(shared=same)
        if same:
            first = first._replace(shared=same)
            self.singles = [first.select([0])._replace(result=first.result.of_first_input())]
            self.shapes = {self.singles[0].shape}

    def groups(self) -> list[list[RecordedCall]]:
        """The singles, and those of the most frequent shape, where these are several."""
        seen = [single.shape for single in self.singles]
        most = max(seen, key=seen.count)
        alike = [s for s, shape in zip(self.singles, seen, strict=True) if shape == most]
        return [self.singles, *([alike] if 1 < len(alike) < len(seen) else [])]

    def together(self, watched: Watched, singles: Sequence[RecordedCall]) -> RecordedCall:
        """Several calls of one input as one call.

        Raises:
            InputError: their arguments cannot be put together.
            Exception: whatever a model raises for a call that it was never given.
        """
        given, mask = (joined(parts) for parts in zip(*(c[:2] for c in singles), strict=True))
        call = singles[0]._replace(given=given, mask=mask, size=len(singles))
        return call._replace(result=call.replay(watched))
