"""Watched: a model and its coders, each of which reads what one of the model's layers returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from itertools import chain
from typing import Any, cast

import torch
from torch import Tensor, nn

from nervecode.core import BatchShape, CodingTrace
from nervecode.core.batch import UNKNOWN
from nervecode.errors import InputError, NervecodeError, did_you_mean
from nervecode.layers.call import Arguments, agreed_size, masked_parts
from nervecode.layers.coder import Coder, Reduced, price_together
from nervecode.layers.condition import Condition
from nervecode.layers.last import LastTraces, Traces
from nervecode.layers.names import key_of, module_name, numbered
from nervecode.layers.remarks import Remarks
from nervecode.layers.sketch import InputSketch
from nervecode.layers.state import with_prefix, without_prefix
from nervecode.layers.taps import TapSet, activation_of
from nervecode.scoring.layer_calibration import LayerCalibration

Read = Callable[[Coder, Any, BatchShape], Any]


class Watched(nn.Module):
    """A model and a coder for each of its watched layers.

    Attributes:
        model: the model itself.
        coders: one coder per watched layer.
        layer_names: the watched layers, in the model's order.
        coding_enabled: set by `enable_coding` and `disable_coding`.
        calibration: what the coders were calibrated to; None before.
        fit_inputs: which inputs the coders were fitted to; None where that is not known.
        condition: the state of the model in which codes and calibration hold.
    """

    def __init__(self, model: nn.Module, coders: Mapping[str, Coder]) -> None:
        super().__init__()
        self.model = model
        self.coding_enabled = True
        self._bypassed = 0
        self._remarks, self._last = Remarks(), LastTraces()
        parts = masked_parts(eager(model))
        self._arguments = {name: Arguments(m) for name, m in {"": eager(model), **parts}.items()}
        self._taps = TapSet(eager(model), self._last.forget)
        self._taps.enter(parts)
        self.replace_coders(coders)
        self._register_state_dict_hook(without_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(with_prefix)  # type: ignore[no-untyped-call]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns, unchanged; the traces are kept for `surprise`."""
        output, traces = watched_call(self, args, kwargs)
        self._last.keep(traces)
        return output

    def forward_with_trace(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, CodingTrace]]:
        """What the model returns, and layer -> trace; a second run of a layer is `name#2`."""
        output, traces = watched_call(self, args, kwargs)
        if not torch.compiler.is_compiling():
            self._last.keep(traces)
        return output, traces.layers

    @contextmanager
    def recording(
        self, read: Read | None = None, *, mask: Tensor | None = None
    ) -> Iterator[dict[str, Any]]:
        """Within the block, read any forward of the model in this thread; `mask` as in `score`.

        The mapping that the block gets is filled as the model runs; clear it between forwards:
        layer name -> CodingTrace, or what `read(coder, activation, batch)` returns.
        """
        self._last.forget()
        readings: dict[str, Any] = {}
        with self._taps.watched(Reading(self, readings, read or _code, mask)):
            yield readings

    def replace_coders(self, coders: Mapping[str, Coder]) -> None:
        """Watch with other coders; a calibration of the old ones is dropped."""
        device = device_of(self.model)
        self.calibration: LayerCalibration | None = None  # first, for the threads that score
        self.coders = nn.ModuleDict({key_of(n): c for n, c in coders.items()}).to(device)
        self.layer_names = tuple(coders)
        self.fit_inputs: InputSketch | None = None
        self.condition = Condition()
        modules = dict(self.model.named_modules())
        # `name#2` shares the tap of `name`.
        self._taps.add({(tap := n.split("#")[0]): modules[module_name(tap)] for n in coders})

    def coder(self, name: str) -> Coder:
        """The coder of a watched layer; an InputError names the nearest for another."""
        if (coder := coder_of(self.coders, name)) is None:
            raise InputError(f"layer: unknown {name!r}; {did_you_mean(name, self.layer_names)}")
        return coder

    def enable_coding(self) -> None:
        """Watch again."""
        self.coding_enabled = True

    def disable_coding(self) -> None:
        """Stop watching; traces of earlier calls are dropped."""
        self.coding_enabled = False
        self._last.forget()

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Do not watch within the block; blocks may be nested."""
        self._bypassed += 1
        self._last.forget()
        try:
            yield
        finally:
            self._bypassed -= 1

    def unwrap(self) -> nn.Module:
        """Take the hooks off and return the model as it was."""
        self._taps.remove()
        self._last.forget()
        return self.model

    def __getattr__(self, name: str) -> Any:
        """Anything that the wrapper has not is the model's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(super().__getattr__("model"), name)


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
        self.readings = readings
        self.read = read
        self.mask = mask
        self.call = self.batch = BatchShape(mask=mask)
        self.grad = torch.is_grad_enabled()

    def begin(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model, or a part of it that may be told of padding, is called."""
        arguments = self.watched._arguments[name]
        try:
            if not name:
                self.watched._last.forget()
                self.call = self._masked(arguments.batch(args, kwargs))
                self.batch = self.call
            elif not arguments.attends_elsewhere(args, kwargs):
                mask = arguments.mask(args, kwargs)
                self.batch = self.call if mask is None else self._masked(self.call, mask)
        except Exception:
            self.batch = UNKNOWN

    def _masked(self, batch: BatchShape, mask: Tensor | None = None) -> BatchShape:
        """A batch with the mask that was given, or else a new one, or else its own."""
        known = next((m for m in (self.mask, mask) if m is not None), batch.mask)
        return batch._replace(mask=known)

    def visit(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """A tapped module has run."""
        name = numbered(name, self.readings)
        coder = coder_of(self.coders, name)
        if coder is None:
            return
        try:
            with apart(grad=self.grad):
                activation = coder.activation(inputs, output)
                self.readings[name] = self.read(coder, activation, self.batch)
        except Exception as error:
            self.skip(name, reason(error))
        if self.grad and not torch.is_grad_enabled() and coder.teaches_the_model:
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
            self.drop_strangers(output)
            return price_together(self.readings)
        except Exception as error:
            for name in self.readings:
                self.skip(name, reason(error))
            return {}

    def drop_strangers(self, output: Any) -> None:
        """Drop layers that others contradict, where the call leaves open how many inputs it has."""
        if len(self.batch.sizes) == 1 or not self.readings:
            return
        rows = {
            name: len(layer.vector) // math.prod(layer.places)
            for name, layer in self.readings.items()
        }
        size = agreed_size(rows.values(), self.batch, output)
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


def watched_call(
    watched: Watched, args: tuple[Any, ...], kwargs: dict[str, Any], mask: Tensor | None = None
) -> tuple[Any, Traces]:
    """What the model returns, and what its layers said meanwhile."""
    compiled = getattr(watched.model, "dynamo_ctx", None)
    model = eager(watched.model)

    def run(*args: Any, **kwargs: Any) -> tuple[Any, Traces]:
        return traced(watched, partial(model, *args, **kwargs), mask)

    if compiled is None or torch.compiler.is_compiling():
        return run(*args, **kwargs)
    # A compiled graph says nothing to the outside: the reading is compiled together with it.
    together: tuple[Any, Traces] = compiled(run)(*args, **kwargs)
    return together


def eager(model: nn.Module) -> nn.Module:
    """A model, or the one that `torch.compile` made it from."""
    original = getattr(model, "_orig_mod", model)
    return original if isinstance(original, nn.Module) else model


def traced(
    watched: Watched, run: Callable[[], Any], mask: Tensor | None = None
) -> tuple[Any, Traces]:
    """What `run`, which calls the model, returns, and what the layers said meanwhile."""
    watched._last.forget()  # its memory is free for this call, and a call that fails leaves none
    # What calls a graph looks afterwards: it sees the weights' versions, which the graph cannot.
    remark = None if torch.compiler.is_compiling() else misfit(watched)
    readings: dict[str, Any] = {}
    reading = Reading(watched, readings, _project, mask)
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    if not watched.coding_enabled or watched._bypassed or tracing:
        output = run()
        return output, Traces({}, reading.size({}, output), "coding is disabled or bypassed")
    with watched._taps.watched(reading):
        output = run()
    layers = reading.traces(output)
    known = watched.calibration
    predicted = predicted_classes(output) if known and known.needs_predictions else None
    size = reading.size(layers, output)
    coders = None if torch.compiler.is_compiling() else reading.coders
    return output, Traces(layers, size, remark, reading.batch.mask, predicted, coders)


def answer_of(output: Any) -> Any:
    """What a model answers: the tensor `logits` of a mapping, or else its first tensor, or None."""
    if isinstance(output, Mapping) and isinstance(output.get("logits"), Tensor):
        return output["logits"]
    return activation_of(output)


def predicted_classes(output: Any) -> Tensor | None:
    """(B,) classes that a model's output predicts; None where it is no (B, K) logits."""
    logits = answer_of(output)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or not logits.is_floating_point():
        return None
    return logits.detach().argmax(1)


def misfit(watched: Watched) -> str:
    """Why a calibrated model's codes do not hold now, in words; empty where they do."""
    return "" if watched.calibration is None else watched.condition.complaint(watched.model)


def apart(*, grad: bool) -> AbstractContextManager[object]:
    """Within it, computations belong to no checkpoint around them, and have gradients if asked to.

    A checkpoint counts what is saved for backward within it, and a reentrant one runs without
    gradients.
    """
    if not grad or torch.compiler.is_compiling():
        return nullcontext()
    if not torch.is_grad_enabled():
        return torch.enable_grad()
    if torch._C._autograd._top_saved_tensors_default_hooks(True) is None:
        return nullcontext()
    return torch.autograd.graph.saved_tensors_hooks(_same, _same)


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


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer is; the CPU for a model without any."""
    tensors = chain(model.parameters(), model.buffers(), [torch.empty(0)])
    return next(tensors).device


def _project(coder: Coder, activation: Any, batch: BatchShape) -> CodingTrace | Reduced:
    return coder.project(activation, batch)


def _code(coder: Coder, activation: Any, batch: BatchShape) -> CodingTrace:
    trace: CodingTrace = coder(activation, batch)
    return trace
