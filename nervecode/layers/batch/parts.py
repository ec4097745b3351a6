"""The parts of a batch as a loader gives it: inputs, labels, and which positions are real."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from nervecode.errors import InputError
from nervecode.layers.batch.arguments import Arguments, given_positions
from nervecode.layers.batch.inputs import as_tensor, kind, kinds

LABEL_KEYS = ("labels", "label")
ALLOWED = "allowed: x, (x, labels), a mapping or (mapping, labels)"
HINT = "for others pass call=lambda model, batch: ... and labels=lambda batch: ..."
TENSORS = (Tensor, np.ndarray)


def given_mask(mask: Any) -> Tensor:
    """The real positions of a mask that a caller or a loader gives.

    Raises:
        InputError: neither a tensor nor an array, or a single number.
    """
    if not isinstance(mask, TENSORS) or not mask.ndim:
        raise InputError(f"mask: found {kind(mask)}, allowed: (B, ...), 1 at real positions")
    return given_positions(as_tensor(mask))


def mask_argument(
    model: Arguments, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> Tensor | None:
    """The real positions of an argument of the model that is called `mask`, where it is given."""
    mask = model.by_name(args, kwargs).get("mask") if "mask" in model.names else None
    return given_mask(mask) if isinstance(mask, TENSORS) else None


def split(batch: Any, *, takes_list: bool = False) -> tuple[Any, Any]:
    """(inputs, labels or None) of a batch.

    Args:
        batch: what a loader gave.
        takes_list: whether the model takes a list of tensors as its input.

    Raises:
        InputError: another kind of batch than `read_batches` knows.
    """
    if isinstance(batch, Mapping):
        return _without_labels(batch)
    if isinstance(batch, (*TENSORS, PackedSequence)):
        return _inputs(batch), None
    if not isinstance(batch, (tuple, list)) or not batch:
        raise InputError(f"found {kind(batch)}, {ALLOWED}; {HINT}")
    if _are_alike(batch) and (takes_list or len(batch) > 2):
        return list(batch), None
    if len(batch) == 1:
        return split(batch[0])
    if len(batch) != 2:
        raise InputError(f"found {len(batch)} parts, {kinds(batch)}, {ALLOWED}; {HINT}")
    return _pair(*batch)


def _without_labels(batch: Mapping[Any, Any]) -> tuple[dict[Any, Any], Any]:
    present = [key for key in LABEL_KEYS if key in batch]
    if len(present) > 1:
        raise InputError("keys 'labels' and 'label': found both, allowed: one; pass labels=KEY")
    inputs = {key: value for key, value in batch.items() if key not in present}
    return inputs, batch[present[0]] if present else None


def _pair(x: Any, labels: Any) -> tuple[Any, Any]:
    """(x, labels), (mapping, labels), or a detector's (images, targets), which has no labels."""
    if isinstance(x, Mapping) and (within := [key for key in LABEL_KEYS if key in x]):
        raise InputError(f"key {within[0]!r} and position 1: found labels in both, {ALLOWED}")
    targets = isinstance(labels, (tuple, list)) and all(isinstance(t, Mapping) for t in labels)
    return _inputs(x), None if targets else labels


def _inputs(x: Any) -> Any:
    """What the model is given, where a batch has it; a vector of floats is a single input."""
    if isinstance(x, PackedSequence):
        return x
    if isinstance(x, Mapping):
        return dict(x)
    if isinstance(x, (tuple, list)) and x and all(isinstance(part, TENSORS) for part in x):
        return list(x)
    if not isinstance(x, TENSORS):
        raise InputError(f"position 0: found {kind(x)}, {ALLOWED}; {HINT}")
    x = as_tensor(x)
    if x.ndim == 0 or (x.ndim == 1 and x.is_floating_point()):
        raise InputError(f"found {kind(x)}, allowed: (B, ...); a batch of one input is x[None]")
    return x


def _are_alike(parts: Iterable[Any]) -> bool:
    """Whether all parts are floating tensors of as many dimensions: (x, mask, labels) is not."""
    return all(isinstance(part, Tensor) and part.is_floating_point() for part in parts) and (
        len({part.ndim for part in parts}) == 1
    )


def named_labels(batch: Any) -> Any:
    """Labels of a batch that `call` runs: those that a key says are labels, and no others.

    The second of two tensors may be anything there: items, lengths, the graph of each node.
    """
    return _without_labels(batch)[1] if isinstance(batch, Mapping) else None
