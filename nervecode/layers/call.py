"""What the arguments of a call of the model tell of its batch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from nervecode.core import BatchShape
from nervecode.layers.taps import activation_of


def batch_of(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], *, sequence_first: bool = False
) -> BatchShape:
    """How many inputs a call has, by the first of its arguments that tells.

    A tensor's first dimension is the batch; a list of tensors may be a batch of inputs or several
    inputs of one batch, so that both its length and the first dimension they share count.

    Args:
        args: the positional arguments of the model's forward.
        kwargs: those by keyword.
        sequence_first: the model has parts that take (T, B, C); so may the model itself, and a
            tensor's second dimension counts too.
    """
    return BatchShape(_first(_sizes(value, sequence_first) for value in (*args, *kwargs.values())))


def _sizes(value: Any, sequence_first: bool) -> tuple[int, ...]:
    if isinstance(value, Tensor):
        if value.is_nested:
            return (value.size(0),)
        return tuple(value.shape[: 1 + sequence_first])
    if isinstance(value, PackedSequence):
        return (int(value.batch_sizes[0]),)  # batch_sizes stays on the CPU
    if isinstance(value, Mapping):
        return _first(_sizes(part, sequence_first) for part in value.values())
    if isinstance(value, (list, tuple)) and value:
        shared = {_sizes(part, sequence_first) for part in value}
        return (*(shared.pop() if len(shared) == 1 else ()), len(value))
    return ()


def _first(sizes: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return next(filter(None, sizes), ())


def agreed_size(rows: Collection[int], batch: BatchShape, output: Any) -> int:
    """How many inputs a call had whose arguments leave it open.

    What the model returned for each input tells, where it may; else most of the layers.

    Args:
        rows: the rows of each layer.
        batch: what the arguments tell.
        output: what the model returned.
    """
    admissible = batch.sizes or tuple(rows)
    returned = activation_of(output)
    # Of three dimensions and more, the first may be steps in a model with sequence-first parts.
    if isinstance(returned, Tensor) and (not batch.sizes or returned.ndim <= 2):
        size = _sizes(returned, False)
        if size and size[0] in admissible and size[0] in rows:
            return size[0]
    return Counter(rows).most_common(1)[0][0]
