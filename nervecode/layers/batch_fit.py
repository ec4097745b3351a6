"""BatchFit: what one batch of a fit gave, and how many inputs it had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from nervecode.core import BatchShape, Reducer
from nervecode.core.batch import UNKNOWN
from nervecode.errors import InputError
from nervecode.layers.layout import sequence_first_parts
from nervecode.layers.taps import activation_of

Vectors = Tensor | tuple[Tensor, Tensor] | InputError
"""A layer's (B, D) vectors; both readings of (?, ?, C), batch first and steps first; or why not."""


def may_be_steps_first(activation: Any) -> bool:
    """Whether an activation has a second dimension that could be the batch."""
    return isinstance(activation, Tensor) and not activation.is_nested and activation.ndim > 2


class BatchFit:
    """What one batch gave: the vectors of each layer, and what tells how many inputs there were."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.vectors: dict[str, Vectors] = {}
        self.batch = UNKNOWN
        self._rows: list[int] = []

    def read(self, reducer: Reducer, activation: Any, batch: BatchShape) -> Vectors:
        """The vectors of an activation."""
        self.batch = batch
        try:
            if reducer.batch_dim is None and may_be_steps_first(activation):
                return reducer.both(activation)
            return reducer(activation, batch)  # type: ignore[no-any-return]
        except InputError as error:
            return error

    @contextmanager
    def watching_steps(self) -> Iterator[None]:
        """Within the block, sequence-first modules tell where they see the batch."""
        with ExitStack() as stack:
            for module in sequence_first_parts(self.model):
                stack.callback(module.register_forward_hook(self._see).remove)
            yield

    def _see(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        steps = activation_of(output)
        if isinstance(steps, Tensor) and steps.ndim == 3:
            self._rows.append(steps.shape[1])

    def size(self, labels: Tensor | None) -> int:
        """How many inputs the batch had: by its labels, its arguments, and most of the layers."""
        sizes = self.batch.sizes
        if labels is not None:
            if sizes and len(labels) not in sizes:
                raise InputError(f"labels: found {len(labels)}, in a call of {self.batch} inputs")
            return len(labels)
        rows = self._rows + [len(z) for z in self.vectors.values() if isinstance(z, Tensor)]
        rows = [number for number in rows if not sizes or number in sizes]
        return Counter(rows).most_common(1)[0][0] if rows else sizes[0] if sizes else 0
