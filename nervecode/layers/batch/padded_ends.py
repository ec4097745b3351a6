"""PaddedEnd: places at an end of inputs that look like padding, as far as it can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.layers.batch.picking import batch_dim, mapped, tensors_in


class PaddedEnd(NamedTuple):
    """One end of all inputs of a call.

    Attributes:
        counts: (B,) how many of the places there look like padding.
        places: T, of which these are some.
        dim: that of the places, where the first is that of the inputs.
        leads: whether it is the first end, and not the last.
    """

    counts: Tensor
    places: int
    dim: int
    leads: bool

    @property
    def variety(self) -> int:
        """How many lengths the inputs have without it."""
        return _number(self.counts)

    def cut(self, value: Any, size: int, length: int) -> Any:
        """Arguments of a call of `size` inputs, whose places are `length` without this end."""
        if not isinstance(value, Tensor):
            return mapped(value, lambda part: self.cut(part, size, length))
        batch = batch_dim(value, size)
        if batch is None:
            return value
        x = value.movedim(batch, 0)
        dims = [dim for dim in (self.dim, *range(1, x.ndim)) if self._are_at(x, dim)]
        if not dims:
            return value
        start = self.places - length if self.leads else 0
        return x.narrow(dims[0], start, length).movedim(0, batch)

    def _are_at(self, x: Tensor, dim: int) -> bool:
        return x.shape[dim : dim + 1] == (self.places,)


def padded_ends(value: Any, size: int) -> list[PaddedEnd]:
    """Those in which inputs differ, of the first tensor among some arguments that has any."""
    for x in tensors_in(value):
        batch = None if x.is_nested else batch_dim(x, size)
        found = [] if batch is None else list(_ends(x.movedim(batch, 0)))
        if found:
            return found
    return []


def lengths(value: Any, size: int) -> tuple[int, int]:
    """How many lengths the inputs of a call have, as it seems: by padding, and by numbers (B,)."""
    own = [x for x in tensors_in(value) if x.shape == (size,) and not x.is_floating_point()]
    seen = max((end.variety for end in padded_ends(value, size)), default=1)
    return seen, max(map(_number, own), default=1)


def _ends(x: Tensor) -> Iterator[PaddedEnd]:
    for leads in (False, True):
        for dim, padding in _padding(x, leads=leads):
            end = PaddedEnd(_run(padding, leads=leads), x.shape[dim], dim, leads)
            if end.variety > 1:
                yield end


def _padding(x: Tensor, *, leads: bool) -> Iterator[tuple[int, Tensor]]:
    """The dimension of places, and (B, T) where inputs (B, ...) hold there what padding does.

    Of whole numbers (B, T) that is the value which most inputs have at this end, and none has
    elsewhere; of others (B, T), (B, T, D) or (B, D, T) it is zeros.
    """
    if not x.numel() or x.is_complex():
        return
    if x.ndim == 2 and not x.is_floating_point():
        filled = x == x[:, 0 if leads else -1].long().mode().values
        if torch.equal(filled.sum(1), _run(filled, leads=leads)):
            yield 1, filled
    elif x.ndim == 2:
        yield 1, x == 0
    elif x.ndim == 3 and x.is_floating_point():
        yield 1, (x == 0).all(2)
        yield 2, (x == 0).all(1)


def _run(padding: Tensor, *, leads: bool) -> Tensor:
    """(B,) how many places of (B, T) there are at an end before the first that is none."""
    return (padding if leads else padding.flip(1)).long().cumprod(1).sum(1)


def _number(values: Tensor) -> int:
    """How many different ones there are among some."""
    return len(values.unique())
