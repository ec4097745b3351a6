"""BatchFit: what one batch of a fit gave, and how many inputs it had."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core import BatchShape, Reducer
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.core.positions import PositionSample
from nervecode.core.reduce import fitting_mask
from nervecode.errors import InputError
from nervecode.layers.guard.hooks import of_this_thread
from nervecode.layers.layout import sequence_first_parts
from nervecode.layers.taps import activation_of

Vectors = Tensor | tuple[Tensor, Tensor] | InputError
"""A layer's (B, ..., D) vectors; of (?, ?, C) both, batch first and steps first; or why not."""


def may_be_steps_first(activation: Any) -> bool:
    """Whether an activation has a second dimension that could be the batch."""
    return isinstance(activation, Tensor) and not activation.is_nested and activation.ndim > 2


class BatchFit:
    """What one batch gave: the vectors of each layer, and what tells how many inputs there were.

    `number` is the batch's, from 0, for errors.
    """

    def __init__(self, model: nn.Module, number: int) -> None:
        self.model = model
        self.number = number
        self.vectors: dict[str, Vectors] = {}
        self.batch = UNKNOWN_SHAPE
        self._rows: list[int] = []

    def read(self, reducer: Reducer, activation: Any, batch: BatchShape) -> Vectors:
        """The vectors of an activation."""
        if self.batch.mask is None:
            self.batch = batch  # a part of the model may be the first to be told of padding
        reducer.see(activation)
        try:
            if reducer.batch_dim is None and may_be_steps_first(activation):
                return reducer.both(activation)
            reducer.settle(activation, batch)
            return reducer(activation, batch)  # type: ignore[no-any-return]
        except InputError as error:
            return error

    def rows(
        self, z: Tensor, labels: Tensor | None, sample: PositionSample
    ) -> tuple[Tensor, Tensor]:
        """(n, D) vectors out of (B, D), or a sample out of (B, ..., D), and their (n,) classes."""
        if z.ndim > 2:
            shape = z.shape[:-1]
            mask, tentative = self.batch.mask, self.batch.tentative
            real = None if mask is None else fitting_mask(mask, shape, tentative)
            inputs, places = sample.draw(shape[0], shape[1:].numel(), real)
            z = z.flatten(1, -2)[inputs.to(z.device), places.to(z.device)]
            labels = None if labels is None else labels[inputs.to(labels.device)]
        return z, z.new_zeros(len(z), dtype=torch.long) if labels is None else labels

    @contextmanager
    def watching_steps(self) -> Iterator[None]:
        """Within the block, sequence-first modules tell where they see the batch."""
        with ExitStack() as stack:
            for module in sequence_first_parts(self.model):
                see = of_this_thread(self._see)
                stack.enter_context(module.register_forward_hook(see))
            yield

    def _see(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        steps = activation_of(output)
        if isinstance(steps, Tensor) and steps.ndim == 3:
            self._rows.append(steps.shape[1])

    def size(self, labels: Tensor | None) -> int:
        """How many inputs the batch had: by its labels, its arguments, and most of the layers.

        Raises:
            InputError: labels that are not one for each input.
        """
        sizes = self.batch.sizes
        if labels is not None:
            if sizes and len(labels) not in sizes:
                raise InputError(f"labels: found {len(labels)}, in a call of {self.batch} inputs")
            return len(labels)
        rows = self._rows + [len(z) for z in self.vectors.values() if isinstance(z, Tensor)]
        rows = [number for number in rows if not sizes or number in sizes]
        return Counter(rows).most_common(1)[0][0] if rows else sizes[0] if sizes else 0

    def settled(
        self, reducer_of: Callable[[str], Reducer], size: int
    ) -> tuple[dict[str, Tensor], dict[str, str]]:
        """The vectors of the layers that fit `size` inputs; why others do not, or not the rest."""
        settled: dict[str, Tensor] = {}
        misfits: dict[str, str] = {}
        for name, vectors in self.vectors.items():
            try:
                settled[name] = settled_vectors(vectors, reducer_of(name), size)
            except InputError as error:
                misfits[name] = str(error)
        places = {name: tuple(z.shape[1:-1]) for name, z in settled.items()}
        most = max(places.values(), key=len, default=())
        for name, own in places.items():
            if len(own) != len(most):
                misfits[name] = f"found positions of shape {own}, of other layers {most}"
        return settled, misfits


def settled_vectors(vectors: Vectors, reducer: Reducer, size: int) -> Tensor:
    """The vectors of a layer; where its reducer leaves the batch open, now it is settled.

    Raises:
        InputError: they are not one for each of `size` inputs, or it cannot be told.
    """
    if isinstance(vectors, InputError):
        raise vectors
    if isinstance(vectors, Tensor):
        boxes = reducer.positions and vectors.ndim == 2
        if len(vectors) != size and not boxes:
            raise InputError(f"found {len(vectors)} rows, in a call of {size} inputs")
        return vectors
    fitting = [dim for dim in (0, 1) if len(vectors[dim]) == size]
    if len(fitting) != 1:
        which = "both dimensions" if fitting else "neither dimension"
        raise InputError(f"{which} of {tuple(map(len, vectors))} could be its {size} inputs")
    reducer.batch_dim = fitting[0]
    return vectors[fitting[0]]


@contextmanager
def naming(what: str) -> Iterator[None]:
    """Errors within the block begin with what they are about."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{what}: {error}") from None
