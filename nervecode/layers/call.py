"""What the arguments of a call of the model tell of its batch."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nervecode.core import BatchShape
from nervecode.layers.layout import sequence_first_parts
from nervecode.layers.taps import activation_of


class Arguments:
    """Reads the arguments of a model's calls.

    Args:
        model: the model.
    """

    def __init__(self, model: nn.Module) -> None:
        self.sequence_first = bool(sequence_first_parts(model))
        parameters = _parameters(model)
        anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
        self.names = [p.name for p in parameters]
        self.masks = [name for name in MASKS if anything or name in self.names]

    def batch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> BatchShape:
        """How many inputs a call has, and which of their positions are real.

        The first argument that tells counts. A tensor's first dimension is the batch; of a model
        with sequence-first parts it may be the second. A list of tensors may be a batch of inputs
        or several inputs of one batch: its length and the first dimension they share both count.
        """
        values = (*args, *kwargs.values())
        sizes = _first(_sizes(value, self.sequence_first) for value in values)
        mask = self._mask(args, kwargs) if self.masks else None
        for value in values:
            if mask is None and isinstance(value, Mapping):
                mask = _mask_in(value)
        return BatchShape(sizes, mask)

    def _mask(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
        named = {name: value for name, value in zip(self.names, args, strict=False)}
        return _mask_in({**named, **kwargs})


MASKS: dict[str, Callable[[Tensor], Tensor]] = {
    "attention_mask": lambda mask: mask.bool(),
    # Of booleans true is padding, of numbers what is added to the attention's logits.
    "src_key_padding_mask": lambda mask: mask == 0,
}
"""Arguments that say which positions are real, and how."""


def _mask_in(arguments: Mapping[Any, Any]) -> Tensor | None:
    for name, read in MASKS.items():
        if isinstance(mask := arguments.get(name), Tensor):
            return read(mask)
    return None


def _parameters(model: nn.Module) -> list[inspect.Parameter]:
    """Of the model's forward; none where it does not say, as a scripted one."""
    try:
        return list(inspect.signature(model.forward).parameters.values())
    except (TypeError, ValueError):
        return []


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
