"""Arguments of a call whose inputs are picked, put together, or without their padding."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence

from nervecode.errors import InputError
from nervecode.layers.restored import UNTOUCHED


def picked(value: Any, size: int, inputs: Sequence[int]) -> Any:
    """A copy of the arguments of a call of `size` inputs, with some of these alone, in this order.

    Raises:
        InputError: a packed or nested sequence, or an object, which the call may change.
    """
    if isinstance(value, Tensor):
        dim = _batch_dim(value, size)
        if dim is None:
            return value.clone()
        return value.index_select(dim, torch.tensor(list(inputs), device=value.device))
    if _is_list_of_inputs(value, size):
        return type(value)(value[number] for number in inputs)
    return _mapped(value, lambda part: picked(part, size, inputs))


def joined(calls: Sequence[Any]) -> Any:
    """The arguments of one call, out of those of calls of one input each.

    Tensors that differ in size are filled up with zeros at the end.

    Raises:
        InputError: they are not of one kind, or as in `picked`.
    """
    first = calls[0]
    if any(type(value) is not type(first) for value in calls):
        raise InputError("found arguments of several types")
    if isinstance(first, Tensor):
        return _joined_tensors(calls)
    if _is_list_of_inputs(first, 1):
        return type(first)(part for value in calls for part in value)
    if isinstance(first, Mapping):
        return {key: joined([value[key] for value in calls]) for key in first}
    if isinstance(first, (tuple, list)) and not isinstance(first, PackedSequence):
        return _built(first, [joined(parts) for parts in zip(*calls, strict=True)])
    if any(value != first for value in calls):
        raise InputError("found arguments that differ and are no tensors")
    return _mapped(first, lambda part: part)


def _joined_tensors(tensors: Sequence[Tensor]) -> Tensor:
    first = tensors[0]
    dims = [dim for dim in (0, 1) if all(x.shape[dim : dim + 1] == (1,) for x in tensors)]
    if not dims:
        if any(x.shape != first.shape or not torch.equal(x, first) for x in tensors):
            raise InputError("found tensors that differ and have no dimension of one input")
        return first.clone()
    if any(x.ndim != first.ndim for x in tensors):
        raise InputError("found tensors of several dimensions")
    shape = [max(sizes) for sizes in zip(*(x.shape for x in tensors), strict=True)]
    return torch.cat([_filled(x, shape) for x in tensors], dims[0])


def _filled(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """A tensor of a shape, with zeros at the end where it is smaller."""
    missing = [
        n for dim in reversed(range(tensor.ndim)) for n in (0, shape[dim] - tensor.size(dim))
    ]
    return pad(tensor, missing) if any(missing) else tensor


def trimmed(value: Any, size: int, places: int, length: int) -> Any:
    """Arguments whose tensors (B, T, ...) have the first `length` of their T places alone."""
    if isinstance(value, Tensor):
        return value[:, :length] if value.shape[:2] == (size, places) else value
    return _mapped(value, lambda part: trimmed(part, size, places, length))


def shapes(value: Any) -> tuple[Any, ...]:
    """The shapes of all tensors in some arguments."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(value))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in some arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(part)


def tails(x: Tensor) -> Tensor | None:
    """(B,) how many places at the end of each input look like padding; None where none can.

    Of whole numbers (B, T) those of the value that most inputs end in, of vectors (B, T, D) those
    of zeros.
    """
    if not x.numel():
        return None
    if x.ndim == 2 and not x.is_floating_point() and not x.is_complex():
        x = x.long()
        padding = x == x[:, -1].mode().values
    elif x.ndim == 3 and x.is_floating_point():
        padding = (x == 0).all(-1)
    else:
        return None
    return padding.long().flip(1).cumprod(1).sum(1)


def padded(value: Any, size: int) -> tuple[Tensor, int] | None:
    """(B,) `tails` and T of the first tensor among some arguments whose inputs differ in them."""
    for x in tensors_in(value):
        ends = tails(x) if x.shape[:1] == (size,) else None
        if ends is not None and number(ends) > 1:
            return ends, x.shape[1]
    return None


def number(values: Tensor) -> int:
    """How many different ones there are among some."""
    return len(values.unique())


def variety(value: Any, size: int) -> tuple[int, int]:
    """How many lengths the inputs of a call have, as it seems: by padding, and by numbers (B,)."""
    told = padded(value, size)
    own = [x for x in tensors_in(value) if x.shape == (size,) and not x.is_floating_point()]
    return number(told[0]) if told else 1, max(map(number, own), default=1)


def _batch_dim(tensor: Tensor, size: int) -> int | None:
    if tensor.is_nested:
        raise InputError("found a nested sequence, whose inputs are not picked")
    return next((dim for dim in (0, 1) if tensor.shape[dim : dim + 1] == (size,)), None)


def _is_list_of_inputs(value: Any, size: int) -> bool:
    """Whether something is a list of an entry for each input, and none of tensors of them all."""
    if isinstance(value, PackedSequence) or not isinstance(value, (tuple, list)):
        return False
    rows = any(isinstance(part, Tensor) and part.shape[:1] == (size,) for part in value)
    return len(value) == size and not rows


def _mapped(value: Any, change: Any) -> Any:
    """Arguments with all parts changed."""
    if isinstance(value, PackedSequence):
        raise InputError("found a packed sequence, whose inputs are not picked")
    if isinstance(value, Mapping):
        return {key: change(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        return _built(value, [change(part) for part in value])
    if not isinstance(value, UNTOUCHED):
        raise InputError(f"found {type(value).__name__}, whose inputs are not picked")
    return value


def _built(like: Any, parts: list[Any]) -> Any:
    """A tuple or list of the type of another."""
    return type(like)(*parts) if hasattr(like, "_fields") else type(like)(parts)
