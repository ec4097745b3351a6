"""Watched: a model and its coders, each of which reads what one of the model's layers returns."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn

from nervecode.core import BatchShape, CodingTrace
from nervecode.core.batch import UNKNOWN
from nervecode.errors import InputError, did_you_mean
from nervecode.layers.call import Arguments, agreed_size
from nervecode.layers.coder import Coder, Projected, price_together
from nervecode.layers.names import key_of, layer_name, module_name, numbered
from nervecode.layers.sketch import InputSketch
from nervecode.layers.state import with_prefix, without_prefix
from nervecode.layers.taps import TapSet
from nervecode.scoring.layer_calibration import LayerCalibration

Read = Callable[[Coder, Any, BatchShape], Any]


class Watched(nn.Module):
    """A model and a coder for each of its watched layers.

    Attributes:
        model: the model itself.
        coders: one coder per watched layer; see `layer_names`.
        coding_enabled: set by `enable_coding` and `disable_coding`.
        calibration: what the coders were calibrated to; None before.
        fit_inputs: which inputs the coders were fitted to; None where that is not known.
    """

    def __init__(self, model: nn.Module, coders: Mapping[str, Coder]) -> None:
        super().__init__()
        self.model = model
        self.coding_enabled = True
        self._bypassed = 0
        self._told: set[str] = set()
        self._last = LastTraces()
        self._taps = TapSet(model)
        self._arguments = Arguments(model)
        self.replace_coders(coders)
        self._register_state_dict_hook(without_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(with_prefix)  # type: ignore[no-untyped-call]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns, unchanged; the traces are kept for `surprise`."""
        self._last.forget()  # its memory is free for this call, and a call that fails leaves none
        output, traces = self.forward_with_trace(*args, **kwargs)
        self._last.keep(traces)
        return output

    def forward_with_trace(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, CodingTrace]]:
        """What the model returns, and the trace of each watched layer, by name.

        The traces belong to this call, whatever other threads do. A module that runs twice in
        one forward gives `name` and `name#2`. Empty while coding is disabled or bypassed.
        """
        return self.trace_of(partial(self.model, *args, **kwargs))

    def trace_of(self, run: Callable[[], Any]) -> tuple[Any, dict[str, CodingTrace]]:
        """What `run`, which calls the model, returns, and the traces as in `forward_with_trace`."""
        if not self.coding_enabled or self._bypassed:
            return run(), {}
        projected: dict[str, CodingTrace | Projected] = {}
        reading = Reading(self, projected, _project)
        with self._taps.watched(reading):
            output = run()
        reading.drop_strangers(output)
        return output, price_together(projected)

    @contextmanager
    def recording(self, read: Read | None = None) -> Iterator[dict[str, Any]]:
        """Within the block, read the watched layers of any forward of the model, in this thread.

        Several wrappers of one model can record the same forward. The mapping that the block gets
        is filled as the model runs: layer name -> CodingTrace, or what `read(coder, activation,
        batch)` returns. Clear it between forwards.
        """
        readings: dict[str, Any] = {}
        with self._taps.watched(Reading(self, readings, read or _code)):
            yield readings

    def replace_coders(self, coders: Mapping[str, Coder]) -> None:
        """Watch with other coders; a calibration of the old ones is dropped."""
        self.coders = nn.ModuleDict({key_of(name): coder for name, coder in coders.items()})
        self.coders.to(device_of(self.model))
        self.calibration: LayerCalibration | None = None
        self.fit_inputs: InputSketch | None = None
        modules = dict(self.model.named_modules())
        # `name#2` shares the tap of `name`.
        self._taps.add({(tap := n.split("#")[0]): modules[module_name(tap)] for n in coders})

    def coder(self, name: str) -> Coder:
        """The coder of a watched layer; an InputError names the nearest for another."""
        coder = coder_of(self.coders, name)
        if coder is None:
            raise InputError(f"layer: unknown {name!r}; {did_you_mean(name, self.layer_names)}")
        return coder

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The watched layers, in the model's order."""
        return tuple(layer_name(key) for key in self.coders)

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


class LastTraces:
    """The traces of each thread's last forward; a copy or a pickle has none."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._compiled: dict[str, CodingTrace] | None = None

    def get(self) -> dict[str, CodingTrace]:
        """Those of this thread; empty before a forward."""
        if self._compiled is not None:
            return self._compiled
        traces: dict[str, CodingTrace] = getattr(self._local, "traces", {})
        return traces

    def keep(self, traces: dict[str, CodingTrace]) -> None:
        """Take over those of a forward; a compiled one cannot tell its thread."""
        if torch.compiler.is_compiling():
            self._compiled = traces
        else:
            self._local.traces = traces

    def forget(self) -> None:
        """Drop them."""
        if not torch.compiler.is_compiling():
            self._local.traces = {}
            self._compiled = None

    def __reduce__(self) -> tuple[type[LastTraces], tuple[()]]:
        return LastTraces, ()


class Reading:
    """Reads the tapped modules of a call; what cannot be coded is skipped, and told once.

    Args:
        watched: whose coders read.
        readings: what is filled, layer by layer.
        read: makes a reading of an activation.
    """

    def __init__(self, watched: Watched, readings: dict[str, Any], read: Read) -> None:
        self.watched = watched
        self.readings = readings
        self.read = read
        self.batch = UNKNOWN

    def begin(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called."""
        self.batch = self.watched._arguments.batch(args, kwargs)

    def visit(self, name: str, inputs: tuple[Any, ...], output: Any) -> None:
        """A tapped module has run."""
        name = numbered(name, self.readings)
        coder = coder_of(self.watched.coders, name)
        if coder is None:
            return
        try:
            self.readings[name] = self.read(coder, coder.activation(inputs, output), self.batch)
        except InputError as error:
            self.skip(name, str(error))

    def skip(self, name: str, why: str) -> None:
        """Say once that a layer is not coded."""
        if name not in self.watched._told:
            self.watched._told.add(name)
            warnings.warn(f"layer {name!r} is not coded: {why}", stacklevel=2)

    def drop_strangers(self, output: Any) -> None:
        """Drop layers that others contradict, where the call leaves open how many inputs it has."""
        if len(self.batch.sizes) == 1 or not self.readings:
            return
        rows = {name: len(layer.vector) for name, layer in self.readings.items()}
        size = agreed_size(rows.values(), self.batch, output)
        for name in [name for name, number in rows.items() if number != size]:
            del self.readings[name]
            self.skip(name, f"found {rows[name]} rows, in a call of {size} inputs")


def coder_of(coders: nn.ModuleDict, name: str) -> Coder | None:
    """The coder of a layer; a repeated layer that has none of its own uses the first's."""
    for candidate in (key_of(name), key_of(name.split("#")[0])):
        if candidate in coders:
            coder = coders[candidate]
            assert isinstance(coder, Coder)
            return coder
    return None


def device_of(model: nn.Module) -> torch.device:
    """Where a model's first parameter or buffer is; the CPU for a model without any."""
    tensors = chain(model.parameters(), model.buffers(), [torch.empty(0)])
    return next(tensors).device


def _project(coder: Coder, activation: Any, batch: BatchShape) -> CodingTrace | Projected:
    return coder.project(activation, batch)


def _code(coder: Coder, activation: Any, batch: BatchShape) -> CodingTrace:
    trace: CodingTrace = coder(activation, batch)
    return trace
