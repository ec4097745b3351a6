"""Casting: whether the floating inputs of a pass are cast to the dtype of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import nn

from nervecode.layers.batch.inputs import device_of, floating_dtypes, moved, place
from nervecode.layers.guard.restored import own_random_numbers, restored


class Casting:
    """Gives a model its inputs as `score` would, but for those of a dtype that it refuses."""

    def __init__(self) -> None:
        self._casts: bool | None = None  # until inputs of another dtype come

    def placed(self, model: nn.Module, inputs: Any, run: Callable[[Any], Any]) -> Any:
        """Inputs on a model's device; floating ones of its dtype, once it has refused others.

        Nothing is cast for a model whose floating parameters are of several dtypes, or which has
        none.

        Args:
            model: the same at each call.
            inputs: what a batch has for the model.
            run: calls the model with them. The first that are of another dtype are tried: it is
                called once more than there are batches, with a copy of them.
        """
        device, dtype = place(model)
        if dtype is None or floating_dtypes(inputs) <= {dtype}:
            return moved(inputs, device=device)
        if self._casts is None:
            self._casts = _refuses(model, lambda: run(moved(inputs, device=device, copies=True)))
        return moved(inputs, device=device, dtype=dtype if self._casts else None)


def _refuses(model: nn.Module, run: Callable[[], Any]) -> bool:
    """Whether a run of a model, which changes nothing, raises an error of whatever kind."""
    with _unchanged(model), torch.no_grad():
        try:
            run()
        except Exception:  # which the cast inputs raise too, if it is not of the dtype
            return True
    return False


@contextmanager
def _unchanged(model: nn.Module) -> Iterator[None]:
    """A block that leaves random numbers and, where it can be put back, what a model holds."""
    with ExitStack() as stack:
        stack.enter_context(own_random_numbers(device_of(model)))
        with suppress(Exception):  # it holds a trainer, an iterator: these see a call more
            stack.enter_context(restored(model))
        yield
