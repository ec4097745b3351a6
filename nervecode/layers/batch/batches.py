"""Batches: what a loader gives, read into a call of the model and (B,) labels."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.layers.batch.casting import Casting
from nervecode.layers.batch.inputs import device_of, is_whole, kind, kinds, whole_labels
from nervecode.layers.batch.parts import (
    ALLOWED,
    HINT,
    LABEL_KEYS,
    given_mask,
    named_labels,
    split,
)

RunBatch = Callable[[nn.Module, Any], Any]
Labels = Callable[[Any], Any] | str

ITERABLE = "allowed: an iterable of batches, such as a DataLoader or a list"


class Batch(NamedTuple):
    """One batch.

    Attributes:
        run: calls the model on it, and gives what the model returns.
        labels: (B,) int64 on the model's device, or None.
        mask: (B, ...) true at real positions, where the reader was told how to find it.
        given: what the loader gave.
    """

    run: Callable[[], Any]
    labels: Tensor | None
    mask: Tensor | None = None
    given: Any = None


def read_batches(
    loader: Iterable[Any],
    model: nn.Module,
    *,
    call: RunBatch | None = None,
    labels: Labels | None = None,
    mask: Labels | None = None,
    stage: str = "fit",
) -> Iterator[Batch]:
    """The batches of a loader, one by one.

    A batch is x, (x, labels), a mapping of arguments of the model with the labels under `labels` or
    `label`, or (mapping, labels). x is a tensor, an array, or a list of tensors for a model that
    takes one. Inputs go to the model's device. Floating ones keep their dtype, as in `score`,
    unless the model refuses the first that are of another than its parameters: then these and all
    that follow are cast. One more call of the model, or of `call`, with a copy of them tells.

    Args:
        loader: the batches.
        model: what is called on them.
        call: runs the model on a batch, whose tensors are on the model's device; it is called once
            more, on the first batch with floating tensors of another dtype than the model's.
        labels: the labels of a batch as the loader gave it, or the key that they have there.
        mask: which positions of a batch are real, or the key that this has there.
        stage: who asks, for errors.

    Raises:
        InputError: a loader or a batch of another kind; its number and the key or position are
            named.
        NotReadyError: there is no batch.
    """
    check_loader(loader, stage)
    check_options(stage, call=call, labels=labels, mask=mask)
    reader = BatchReader(model, call, labels, mask)
    number = -1
    for number, batch in enumerate(loader):
        where = f"{stage}: batch {number}"
        try:
            read = reader.read(batch, where)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None
        yield read
    if number < 0:
        once = "; an iterator gives its batches once" if iter(loader) is loader else ""
        raise NotReadyError(f"{stage}: the loader gave no batch{once}")


def check_options(stage: str, **options: Any) -> None:
    """Refuse an option that is no function, or, of those for a part of a batch, no key."""
    for name, value in options.items():
        is_key = isinstance(value, str) and name != "call"
        if value is not None and not callable(value) and not is_key:
            key = "" if name == "call" else ", a key of it"
            raise InputError(
                f"{stage} {name}: found {kind(value)}, allowed: a function of a batch{key} or None"
            )


def check_loader(loader: Any, stage: str) -> None:
    """Refuse what gives rows, keys, letters or single inputs instead of batches."""
    if isinstance(loader, (Tensor, np.ndarray, Mapping, str)):
        raise InputError(f"{stage}: found {kind(loader)}, {ITERABLE}; a single batch is [batch]")
    if isinstance(loader, Dataset) and not isinstance(loader, IterableDataset):
        name = type(loader).__name__
        raise InputError(
            f"{stage}: found a {name}, {ITERABLE}: DataLoader(dataset, batch_size=...)"
        )
    if isinstance(loader, (tuple, list)) and len(loader) == 2 and _is_labelled(*loader):
        raise InputError(f"{stage}: found (x, labels), {ITERABLE}: [(x, labels)]")
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise InputError(f"{stage}: found {kind(loader)}, {ITERABLE}")


def _is_labelled(x: Any, labels: Any) -> bool:
    """Whether two things in a row are inputs and their labels, and not two batches."""
    if not isinstance(labels, (Tensor, np.ndarray)) or labels.ndim != 1 or not is_whole(labels):
        return False
    many = isinstance(x, (Tensor, np.ndarray)) and x.ndim > 1 and len(x) == len(labels)
    return many or isinstance(x, Mapping)


@dataclass(frozen=True)
class BatchReader:
    """Reads batches for a model; see `read_batches`."""

    model: nn.Module
    call: RunBatch | None = None
    labels: Labels | None = None
    mask: Labels | None = None
    casting: Casting = field(default_factory=Casting)

    def read(self, batch: Any, where: str) -> Batch:
        """How to run the model on a batch, and its labels; `where` it is, for errors of the run.

        Raises:
            InputError: a batch of a kind that is not known.
        """
        device = device_of(self.model)
        mask = None if self.mask is None else given_mask(self._part(batch, "mask")).to(device)
        if self.call is not None:
            labels = self._part(batch, "labels") if self.labels else named_labels(batch)
            inputs = batch
        else:
            inputs, labels = self._split(batch)
        start = partial(self._start, where=where)
        inputs = self.casting.placed(self.model, inputs, lambda tried: start(tried)())
        return Batch(
            start(inputs),
            None if labels is None else whole_labels(labels).to(device),
            mask,
            batch,
        )

    def _start(self, inputs: Any, where: str) -> Callable[[], Any]:
        """A run of the model, or of `call`, on what a batch has for it."""
        if self.call is not None:
            return partial(self.call, self.model, inputs)
        return _runner(self.model, inputs, where)

    def _split(self, batch: Any) -> tuple[Any, Any]:
        """(inputs, labels or None) of a batch."""
        if isinstance(self.mask, str) and self.mask not in _signature(self.model).parameters:
            batch = _without(batch, self.mask)
        if self.labels is None:
            return split(batch, takes_list=_takes_list(self.model))
        labels = self._part(batch, "labels")
        if isinstance(self.labels, str):
            return {k: v for k, v in batch.items() if k != self.labels}, labels
        if isinstance(batch, (tuple, list)) and len(batch) == 2:
            return batch[0], labels
        return split(batch, takes_list=_takes_list(self.model))[0], labels

    def _part(self, batch: Any, option: str) -> Any:
        """What the option `labels` or `mask`, a function or a key, says of a batch."""
        how = getattr(self, option)
        if not isinstance(how, str):
            return how(batch)
        mapping = _mapping_of(batch) if option == "mask" else batch
        if not isinstance(mapping, Mapping):
            raise InputError(f"{option}={how!r}: found {kind(batch)}, allowed: a mapping")
        if how not in mapping:
            allowed = did_you_mean(how, map(str, mapping))
            raise InputError(f"{option}={how!r}: no such key; {allowed}")
        return mapping[how]


def _mapping_of(batch: Any) -> Any:
    """A mapping, or that of (mapping, labels)."""
    return batch[0] if isinstance(batch, (tuple, list)) and batch else batch


def _without(batch: Any, key: str) -> Any:
    """A mapping, or (mapping, labels), without a key."""
    if isinstance(batch, Mapping):
        return {name: value for name, value in batch.items() if name != key}
    if isinstance(_mapping_of(batch), Mapping):
        return (_without(batch[0], key), *batch[1:])
    return batch


def _takes_list(model: nn.Module) -> bool:
    """Whether a model says that its input is a list of tensors, as torchvision's detectors do."""
    parameters = list(_signature(model).parameters.values())
    annotation = str(parameters[0].annotation if parameters else "")
    return annotation.removeprefix("typing.").lower().startswith(("list[", "sequence["))


def _signature(model: nn.Module) -> inspect.Signature:
    """What the model's forward takes; anything, where it does not say, as a scripted one."""
    try:
        return inspect.signature(model.forward)
    except (TypeError, ValueError):
        return inspect.signature(lambda *args, **kwargs: None)


def _runner(model: nn.Module, inputs: Any, where: str) -> Callable[[], Any]:
    """A call of the model; inputs of a kind that it does not take are refused by name."""
    if isinstance(inputs, dict):
        _check_keys(model, inputs)
        return partial(model, **inputs)
    if isinstance(inputs, list):
        return partial(_run_list, model, inputs, where)
    return partial(model, inputs)


def _check_keys(model: nn.Module, inputs: dict[Any, Any]) -> None:
    signature = _signature(model)
    name = f"{type(model).__name__}.forward"
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for key in inputs:
        if not isinstance(key, str) or not (takes_any or key in signature.parameters):
            allowed = did_you_mean(str(key), [*signature.parameters, *LABEL_KEYS])
            raise InputError(f"key {key!r}: no argument of {name}; {allowed}; {HINT}")
    try:
        signature.bind(**inputs)
    except TypeError as error:
        raise InputError(f"found keys {', '.join(inputs)}, but {name}: {error}; {HINT}") from None


def _run_list(model: nn.Module, inputs: list[Any], where: str) -> Any:
    try:
        return model(inputs)
    except (TypeError, AttributeError, ValueError) as error:
        raise InputError(
            f"{where}: found {kinds(inputs)}; {type(model).__name__} takes no list of tensors "
            f"({error}); {ALLOWED}; {HINT}"
        ) from error
