"""Inputs: tensors and arrays of a batch, where the model is and of its dtype; labels, counted."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nervecode.errors import InputError

CONTAINERS = (Mapping, tuple, list)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer is; the CPU for a model without any."""
    tensors = chain(model.parameters(), model.buffers(), [torch.empty(0)])
    return next(tensors).device


def place(model: nn.Module) -> tuple[torch.device, torch.dtype | None]:
    """A model's device, and the dtype of its floating parameters if they are of one alone."""
    dtypes = {p.dtype for p in model.parameters() if p.is_floating_point()}
    return device_of(model), dtypes.pop() if len(dtypes) == 1 else None


def moved(
    value: Any,
    *,
    device: torch.device,
    dtype: torch.dtype | None = None,
    copies: bool = False,
) -> Any:
    """A batch with its tensors and arrays on a device, and floating ones of a dtype if given.

    Tuples and lists keep their type. Anything else that has a method `to` is asked for a copy.
    With `copies` no tensor shares its memory with the batch.
    """
    move = partial(moved, device=device, dtype=dtype, copies=copies)
    if isinstance(value, np.ndarray):
        value = as_tensor(value)
    if isinstance(value, (Tensor, PackedSequence)):
        to: Callable[..., Any] = value.to
        placed = to(device, dtype) if dtype and floating_dtypes(value) else to(device)
        return _copied(placed) if copies else placed
    if callable(getattr(value, "to", None)):
        return copy.copy(value).to(device)
    if isinstance(value, Mapping):
        return {key: move(part) for key, part in value.items()}
    if isinstance(value, (tuple, list)):
        parts = [move(part) for part in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value


def _copied(value: Tensor | PackedSequence) -> Tensor | PackedSequence:
    if isinstance(value, PackedSequence):  # whose own `to` makes no copies
        return PackedSequence(value.data.clone(), *value[1:])
    return value.clone()


def floating_dtypes(value: Any) -> set[torch.dtype]:
    """The dtypes of the floating tensors and arrays in a batch that `moved` can cast."""
    if isinstance(value, np.ndarray):  # looked at without a copy, which a mapped one would need
        known = value.dtype.kind == "f" and value.dtype.itemsize <= 8  # of others `moved` complains
        return {as_tensor(np.empty(0, value.dtype)).dtype} if known else set()
    if isinstance(value, (Tensor, PackedSequence)):
        data = value.data if isinstance(value, PackedSequence) else value
        return {data.dtype} if data.is_floating_point() else set()
    if callable(getattr(value, "to", None)):
        return set()
    parts = value.values() if isinstance(value, Mapping) else value
    return set().union(*map(floating_dtypes, parts)) if isinstance(value, CONTAINERS) else set()


def as_tensor(array: Tensor | np.ndarray) -> Tensor:
    """An array as a tensor, in the array's memory where torch can take it as it is.

    Raises:
        InputError: an array that is not of numbers.
    """
    if isinstance(array, Tensor):
        return array
    try:
        if not array.flags.writeable or min(array.strides, default=0) < 0:
            array = array.copy()
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))
    except TypeError:  # text, objects, numbers of 16 bytes
        raise InputError(f"found {kind(array)}, allowed: an array of numbers") from None


def whole_labels(labels: Any) -> Tensor:
    """(B,) int64, from whole numbers of any type.

    Raises:
        InputError: floats, text, or another shape.
    """
    if isinstance(labels, (tuple, list)):
        labels = _listed(labels)
    if not isinstance(labels, (Tensor, np.ndarray)):
        raise InputError(f"labels: found {kind(labels)}, allowed: (B,) whole numbers")
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if not is_whole(labels) or labels.ndim != 1:
        single = " of a single input: a DataLoader makes batches" if labels.ndim == 0 else ""
        raise InputError(
            f"labels: found {kind(labels)}{single}, allowed: (B,) whole numbers; "
            "labels=lambda batch: ... makes them, and x alone or labels=lambda batch: None "
            "gives codes without classes"
        )
    return as_tensor(labels).long()


def _listed(labels: Any) -> Any:
    """A list of numbers, of arrays or of tensors without a dimension, as one array."""
    try:
        return np.asarray([n.cpu() if isinstance(n, Tensor) else n for n in labels])
    except ValueError:  # rows of different lengths
        return labels


def is_whole(values: Tensor | np.ndarray) -> bool:
    """Whether values are of a whole-number type, or bool."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "iub"
    return not values.is_floating_point() and not values.is_complex()


def kind(value: Any) -> str:
    """What something is, in a few words: type, and dtype and shape where it has them."""
    if isinstance(value, (Tensor, np.ndarray)):
        dtype = str(value.dtype).removeprefix("torch.")
        name = "tensor" if isinstance(value, Tensor) else "array"
        return f"{dtype} {name} of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list)) and len(value) < 4:
        return f"{type(value).__name__} ({kinds(value)})"
    return f"{type(value).__name__}"


def kinds(parts: Iterable[Any]) -> str:
    """What each of some things is; of many, the first three."""
    listed = [kind(part) for part in parts]
    return ", ".join(listed[:3]) + (f" and {len(listed) - 3} more" if len(listed) > 3 else "")
