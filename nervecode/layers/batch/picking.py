"""Arguments of a call whose inputs are picked, or put together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import PackedSequence

from nervecode.errors import InputError
from nervecode.layers.guard.restored import UNTOUCHED


def picked(value: Any, size: int, inputs: Sequence[int]) -> Any:
    """A copy of the arguments of a call of `size` inputs, with some of these alone, in this order.

    Raises:
        InputError: a packed or nested sequence, or an object, which the call may change.
    """
    if isinstance(value, Tensor):
        dim = batch_dim(value, size)
        if dim is None:
            return value.clone()
        return value.index_select(dim, torch.tensor(list(inputs), device=value.device))
    if _is_list_of_inputs(value, size):
        return type(value)(value[number] for number in inputs)
    return mapped(value, lambda part: picked(part, size, inputs))


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
    return mapped(first, lambda part: part)


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


def shapes(value: Any) -> tuple[Any, ...]:
    """The shapes of all tensors in some arguments."""
    return tuple(tuple(tensor.shape) for tensor in tensors_in(value))


def shapes_of_one(value: Any, size: int) -> tuple[Any, ...]:
    """The same, as if the first of `size` inputs were alone.

    Raises:
        InputError: a nested sequence.
    """
    if isinstance(value, Tensor):
        dim = batch_dim(value, size)
        return (tuple(1 if d == dim else n for d, n in enumerate(value.shape)),)
    if _is_list_of_inputs(value, size):
        return shapes(value[0])
    if isinstance(value, (Mapping, tuple, list)):
        parts = value.values() if isinstance(value, Mapping) else value
        return tuple(shape for part in parts for shape in shapes_of_one(part, size))
    return ()


def tensors_in(value: Any) -> Iterator[Tensor]:
    """All tensors in some arguments."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (Mapping, tuple, list)):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from tensors_in(part)


def batch_dim(tensor: Tensor, size: int) -> int | None:
    """The dimension of a tensor that has the inputs of a call; None where it has none.

    Raises:
        InputError: a nested sequence.
    """
    if tensor.is_nested:
        raise InputError("found a nested sequence, whose inputs are not picked")
    return next((dim for dim in (0, 1) if tensor.shape[dim : dim + 1] == (size,)), None)


def _is_list_of_inputs(value: Any, size: int) -> bool:
    """Whether something is a list of an entry for each input, and none of tensors of them all."""
    if isinstance(value, PackedSequence) or not isinstance(value, (tuple, list)):
        return False
    rows = any(isinstance(part, Tensor) and part.shape[:1] == (size,) for part in value)
    return len(value) == size and not rows


def mapped(value: Any, change: Any) -> Any:
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
