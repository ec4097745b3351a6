"""Reading: what the tapped modules of one call say, by the coders of a watched model."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from nervecode.core import BatchShape, CodingTrace
from nervecode.core.call import precision_on
from nervecode.errors import NervecodeError
from nervecode.layers.batch.answer import answer_rows
from nervecode.layers.batch.arguments import agreed_size
from nervecode.layers.batch.call_batch import CallBatch
from nervecode.layers.coder import Coder
from nervecode.layers.coders.fitted import price_together
from nervecode.layers.names import key_of, numbered
from nervecode.layers.taps import activation_of

if TYPE_CHECKING:
    from nervecode.layers.watched import Watched

Read = Callable[[Coder, Any, BatchShape], Any]


class Reading:
    """Reads the tapped modules of a call; what cannot be coded is skipped, and told once.

    Nothing that goes wrong here reaches the model.

    Args:
        watched: whose coders read.
        readings: what is filled, layer by layer.
        read: makes a reading of an activation.
        mask: the real positions, whatever the arguments of the call say of them.
    """

    def __init__(
        self,
        watched: Watched,
        readings: dict[str, Any],
        read: Read,
        mask: Tensor | None = None,
    ) -> None:
        self.watched = watched
        self.coders = watched.coders  # another thread may replace them
        self.readings, self.read = readings, read
        self.call = CallBatch(watched._arguments, mask)
        self.grad = torch.is_grad_enabled()
        self.precision = ""  # where the first layer ran: a forward may switch autocast on itself

    @property
    def batch(self) -> BatchShape:
        """What is known of the batch by now."""
        return self.call.now

    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model, or a part of it that may be told of padding, is called."""
        if not name:
            self.watched._last.forget()
        self.call.begin(name, args, kwargs)

    def end(self) -> None:
        """A call of the model has ended."""
        self.call.end()

    def visit(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """A tapped module has run."""
        batch, name = self.call.of(name), numbered(name, self.readings)
        coder = coder_of(self.coders, name)
        if coder is None:
            return
        try:
            if not self.precision and not torch.compiler.is_compiling():
                self.precision = _precision(output)
            with apart(grad=self.grad):
                activation = coder.activation(inputs, output)
                self.readings[name] = self.read(coder, activation, batch)
        except Exception as error:
            self.skip(name, reason(error))
        if self.grad and not torch.is_grad_enabled() and coder.trains_model:
            self.watched._remarks.tell(
                f"layer {name!r} ran without gradients, as within torch.no_grad or a reentrant "
                "checkpoint: coding_loss does not reach the model through it"
            )

    def skip(self, name: str, why: str) -> None:
        """Say once that a layer is not coded."""
        message = f"layer {name!r} is not coded: {why}"
        self.watched._remarks.tell(message, about=f"layer {name!r}")

    def traces(self, output: Any) -> dict[str, CodingTrace]:
        """Layer -> trace, after a call whose readings are projected."""
        try:
            self.drop_mismatched(output)
            return price_together(self.readings)
        except Exception as error:
            for name in self.readings:
                self.skip(name, reason(error))
            return {}

    def drop_mismatched(self, output: Any) -> None:
        """Drop layers that others contradict, where the call leaves open how many inputs it has."""
        if len(self.batch.sizes) == 1 or not self.readings:
            return
        rows = {
            name: len(layer.vector) // places
            for name, layer in self.readings.items()
            if (places := math.prod(layer.places))
        }
        if not rows:
            return
        answers = answer_rows(output, self.watched.answer_path, self.watched.answer_width)
        size = agreed_size(rows, self.batch, output, answers)
        for name in [name for name, number in rows.items() if number != size]:
            del self.readings[name]
            self.skip(name, f"found {rows[name]} rows, in a call of {size} inputs")

    def size(self, traces: Mapping[str, CodingTrace], output: Any) -> int | None:
        """B, from a layer, the arguments of the call or what it returned."""
        for trace in traces.values():
            return trace.inputs
        returned = activation_of(output)
        sizes = self.batch.sizes or (returned.shape[:1] if isinstance(returned, Tensor) else ())
        return sizes[0] if sizes else None


def apart(*, grad: bool) -> AbstractContextManager[object]:
    """Within it, computations belong to no checkpoint around them, and have gradients if asked to.

    A checkpoint counts what is saved for backward within it, and a reentrant one runs without
    gradients.
    """
    if not grad or torch.compiler.is_compiling():
        return nullcontext()
    if not torch.is_grad_enabled():
        return torch.enable_grad()
    top = getattr(torch._C._autograd, "_top_saved_tensors_default_hooks", None)  # since 2.8
    if top is not None and top(True) is None:
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(_same, _same)


def _precision(output: Any) -> str:
    activation = activation_of(output)
    return precision_on(activation.device.type) if isinstance(activation, Tensor) else ""


def _same(tensor: Tensor) -> Tensor:
    return tensor


def reason(error: Exception) -> str:
    """What went wrong, in one line; an error of another's code with its kind."""
    lines = str(error).splitlines()
    text = lines[0] if lines else "no message"
    return text if isinstance(error, NervecodeError) else f"{type(error).__name__}: {text}"


def coder_of(coders: nn.ModuleDict, name: str) -> Coder | None:
    """The coder of a layer; a repeated layer that has none of its own uses the first's."""
    # Dynamo warns of a cache, which it does not need.
    key = key_of.__wrapped__ if torch.compiler.is_compiling() else key_of
    for candidate in (key(name), key(name.split("#")[0])):
        if candidate in coders:
            return cast(Coder, coders[candidate])
    return None
