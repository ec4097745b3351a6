"""Coder: reducer + codebooks -> CodingTrace, one for each tapped layer."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from nervecode.core import BatchShape, CodingTrace, GaussianCode, Reducer
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.errors import InputError
from nervecode.layers.taps import activation_of


class Reduced(NamedTuple):
    """A layer's vectors, (B, D), not yet priced."""

    codes: GaussianCode
    vector: Tensor
    places: tuple[int, ...] = ()


class Coder(nn.Module, ABC):
    """Codes one layer's activations, in float32 at least, outside any autocast."""

    def __init__(self, reducer: Reducer) -> None:
        super().__init__()
        self.reducer = reducer

    @property
    def trains_model(self) -> bool:
        """Whether a loss of its traces is meant to reach the model."""
        return False

    def activation(self, inputs: tuple[Any, ...], output: Any) -> Any:
        """What is coded, out of what the watched module was given and returned.

        Raises:
            InputError: the output has no such tensor.
        """
        activation = activation_of(output, self.reducer.pick)
        if activation is None:
            raise InputError("its output has no tensor")
        if isinstance(activation, Tensor) and activation.is_quantized:
            return activation.dequantize()
        return activation

    def reduce(self, activation: Any, batch: BatchShape = UNKNOWN_SHAPE) -> Tensor:
        """(B, D) vectors, and their gradients, that no later in-place operation changes."""
        reducer = self.reducer
        if _is_saved(activation, reducer):
            return reducer(activation.clone(), batch)  # type: ignore[no-any-return]
        vector: Tensor = reducer(activation, batch)
        return vector.clone() if vector is activation else vector

    def forward(self, activation: Any, batch: BatchShape = UNKNOWN_SHAPE) -> CodingTrace:
        """Code a batch of activations; `batch` is what is known of their call."""
        with without_autocast(device_type(activation)):
            vector = self.reduce(activation, batch)
            trace = self.code(vector.flatten(0, -2))
        return replace(trace, places=tuple(vector.shape[1:-1])) if vector.ndim > 2 else trace

    def project(self, activation: Any, batch: BatchShape = UNKNOWN_SHAPE) -> CodingTrace | Reduced:
        """Code a batch of activations, or as much of it as needs the activations themselves.

        `price_together` does the rest, for all layers of a forward at once.
        """
        return self(activation, batch)  # type: ignore[no-any-return]

    @abstractmethod
    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Coder:
        """Follow the model to its device, but not below float32: a code needs the precision."""
        coder: Coder = super()._apply(  # type: ignore[no-untyped-call]
            lambda t: _float32_at_least(t, fn(t)), recurse
        )
        return coder

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What `coder_from_spec` needs to build an equal coder, as plain JSON values."""


def _is_saved(activation: Any, reducer: Reducer) -> bool:
    """Whether backward would need the activation itself: only a mean over places does not."""
    if not isinstance(activation, Tensor) or not activation.requires_grad:
        return False
    averaged = activation.ndim > 2 and reducer.name in ("mean", "tokens")
    return torch.is_grad_enabled() and not torch.compiler.is_compiling() and not averaged


def device_type(activation: Tensor | PackedSequence) -> str:
    """`cpu`, `cuda`, ..."""
    return (activation if isinstance(activation, Tensor) else activation.data).device.type


def without_autocast(device_type: str) -> AbstractContextManager[object]:
    """Within it, nothing is cast; where nothing would be, it costs nothing."""
    if not torch.is_autocast_enabled(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)


def _float32_at_least(before: Tensor, after: Tensor) -> Tensor:
    halved = after.dtype in (torch.float16, torch.bfloat16)
    return before.to(after.device) if halved else after


class UnseenCoder(Coder):
    """A layer that did not run while codes were fitted: it has none, and says so if it runs."""

    def code(self, vector: Tensor) -> CodingTrace:
        """There is nothing to code with."""
        raise InputError("it did not run while the codes were fitted")

    def spec(self) -> dict[str, Any]:
        """The reducer, as plain JSON values."""
        return {"kind": "unseen", "reducer": self.reducer.spec()}
