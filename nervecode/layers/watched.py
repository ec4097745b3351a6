"""Watched: a model and its coders, each of which reads what one of the model's layers returns."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from inspect import getattr_static
from typing import Any

import torch
from torch import Tensor, nn
from torch._C._dynamo.eval_frame import get_eval_frame_callback

from nervecode.core import BatchShape, Call, CodingTrace
from nervecode.core.call import UNKNOWN_CALL, is_recomputed
from nervecode.errors import InputError, did_you_mean
from nervecode.layers.batch.answer import Path, predicted_classes
from nervecode.layers.batch.arguments import Arguments, masked_parts
from nervecode.layers.batch.inputs import device_of
from nervecode.layers.batch.parts import given_mask
from nervecode.layers.batch.sketch import InputSketch
from nervecode.layers.bypass import Bypass
from nervecode.layers.coder import Coder, Reduced
from nervecode.layers.guard.condition import Condition
from nervecode.layers.last_traces import LastTraces, Traces
from nervecode.layers.names import key_of, module_name
from nervecode.layers.reading import Read, Reading, apart, coder_of
from nervecode.layers.remarks import Remarks
from nervecode.layers.state import with_prefix, without_prefix
from nervecode.layers.taps import TapSet
from nervecode.scoring.layer_calibration import LayerCalibration

COMPILED = (
    "the model, or a part of it that is watched within, was compiled in place, and runs uncompiled "
    "while it is watched; torch.compile(wrapped.score) compiles both"
)


BROKEN = (
    "the model does not compile to one graph, and runs uncompiled while it is watched; "
    "torch.compile(model, fullgraph=True) tells where the graph breaks"
)
DISABLED = "coding is disabled or bypassed"
AGAIN = "the call is one that backward makes, as of a checkpoint"
TRAINED_ON = "the codebooks have changed since calibration; calibrate again"


def _set(watched: Watched, name: str, value: Any) -> None:
    """What the wrapper has not, and the model has, is the model's."""
    if _is_of_model(watched, name):
        setattr(watched.model, name, value)
    else:
        nn.Module.__setattr__(watched, name, value)


def _delete(watched: Watched, name: str) -> None:
    """As `_set`."""
    if _is_of_model(watched, name):
        delattr(watched.model, name)
    else:
        nn.Module.__delattr__(watched, name)


def _is_of_model(watched: Watched, name: str) -> bool:
    """Whether the model has an attribute that its wrapper, once it is made, has not.

    What a subclass sets as it is made is its own.
    """
    is_made = "_codebooks" in vars(watched) and type(watched).__init__ is Watched.__init__
    if not is_made or _keeps(watched, name):
        return False
    model = eager(watched.model)
    return _keeps(model, name) or (isinstance(model, Watched) and _is_of_model(model, name))


def _keeps(module: nn.Module, name: str) -> bool:
    """Whether an attribute can be set on a module that has it; none of the module's code runs."""
    own = (vars(module), module._modules, module._parameters, module._buffers)
    kind = getattr_static(type(module), name, None)
    fixed = kind is None or (isinstance(kind, property) and kind.fset is None)
    return not fixed or any(name in names for names in own)


def _training(watched: Watched) -> bool:
    """Whether the model is in training mode: who restores the wrapper's restores the model's."""
    model = watched._modules.get("model")
    return model is None or model.training


def _set_training(watched: Watched, mode: bool) -> None:
    """As `_training`."""
    if (model := watched.__dict__.get("_modules", {}).get("model")) is not None:
        model.training = mode


def _copied(watched: Watched, memo: dict[int, Any]) -> Watched:
    """A copy that hears its own model, also where that copies itself, and its hooks not with it."""
    twin = memo[id(watched)] = type(watched).__new__(type(watched))
    twin.__setstate__(deepcopy(vars(watched), memo))  # type: ignore[no-untyped-call]
    tap(twin)
    return twin


class Watched(nn.Module):
    """A model and a coder for each of its watched layers.

    Attributes:
        model: the model itself.
        coders: one coder per watched layer.
        layer_names: the watched layers, in the model's order.
        coding_enabled: set by `enable_coding` and `disable_coding`.
        calibration: what the coders were calibrated to; None before.
        answer_path, answer_width: where the output has its K logits, and K; None: no fit told.
        fit_inputs: which inputs the coders were fitted to; None where that is not known.
        condition: the state of the model in which codes and calibration hold.
    """

    def __init__(self, model: nn.Module, coders: Mapping[str, Coder]) -> None:
        super().__init__()
        self.model = model
        self.coding_enabled, self._bypass = True, Bypass()
        self._remarks, self._last = Remarks(), LastTraces()
        self._arguments: dict[str, Arguments] = {}  # of the model and its masked parts
        self._taps = TapSet(eager(model), self._last.unwatched)
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
        return output, {n: replace(trace, call=traces.call) for n, trace in traces.layers.items()}

    @contextmanager
    def recording(
        self, read: Read | None = None, *, mask: Tensor | None = None
    ) -> Iterator[dict[str, Any]]:
        """Within the block, read any forward of the model in this thread; `mask` as in `score`.

        The mapping that the block gets is filled as the model runs; clear it between forwards:
        layer name -> CodingTrace, or what `read(coder, activation, batch)` returns.
        """
        self._last.unwatched()  # what `read` is given, nobody judges
        readings: dict[str, Any] = {}
        mask = None if mask is None else given_mask(mask)
        with self._taps.watched(Reading(self, readings, read or partial(_code, self), mask)):
            yield readings

    def replace_coders(self, coders: Mapping[str, Coder]) -> None:
        """Watch with other coders; a calibration of the old ones is dropped."""
        given = nn.ModuleDict({key_of(n): c for n, c in coders.items()}).to(device_of(self.model))
        self.calibration: LayerCalibration | None = None  # first, for the threads that score
        self.coders = given
        self.layer_names = tuple(coders)
        self.fit_inputs: InputSketch | None = None
        self.answer_path: Path | None = None
        self.answer_width: int | None = None
        self.condition = Condition()
        self._codebooks: Condition | None = None  # learned ones, as they were calibrated
        tap(self)

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
        """Do not watch this thread's calls within the block; blocks may be nested."""
        self._last.forget()
        with self._bypass.within():
            yield

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
            if name == "model" or (name.startswith("__") and name.endswith("__")):
                raise  # a protocol, such as of copies, is each object's own
            return getattr(super().__getattr__("model"), name)

    __setattr__, __delattr__, __deepcopy__ = _set, _delete, _copied
    training = property(_training, _set_training)


def tap(watched: Watched) -> None:
    """Hear the modules that have the names of the watched layers now, replaced or not."""
    model = eager(watched.model)
    parts = masked_parts(model)
    watched._arguments = {name: Arguments(m) for name, m in {"": model, **parts}.items()}
    watched._taps.enter(parts)
    modules = dict(watched.model.named_modules())
    # `name#2` shares the tap of `name`.
    taps = dict.fromkeys(name.split("#")[0] for name in watched.layer_names)
    found = {name: modules.get(module_name(name)) for name in taps}
    watched._taps.drop([name for name, module in found.items() if module is None])
    watched._taps.add({name: module for name, module in found.items() if module is not None})


def watched_call(
    watched: Watched, args: tuple[Any, ...], kwargs: dict[str, Any], mask: Tensor | None = None
) -> tuple[Any, Traces]:
    """What the model returns, and what its layers said meanwhile."""
    compiled = getattr(watched.model, "dynamo_ctx", None)
    model = eager(watched.model)
    if not torch.compiler.is_compiling() and watched._taps.uncompiles():
        watched._remarks.tell(COMPILED)
    if compiled is None or torch.compiler.is_compiling():
        return traced(watched, partial(model, *args, **kwargs), mask)

    def run(*args: Any, **kwargs: Any) -> tuple[Any, Traces]:
        return traced(watched, partial(model, *args, **kwargs), mask, UNKNOWN_CALL)

    # A compiled graph says nothing to the outside: the reading is compiled together with it.
    known = call_of(watched)
    output, traces = compiled(run)(*args, **kwargs)
    call = traces.call
    call = call._replace(
        remark=call.remark or known.remark,
        codes=known.codes,
        weights=known.weights,
        looked=known.looked,
    )
    return output, Traces(traces.layers, call)


def eager(model: nn.Module) -> nn.Module:
    """A model, or the one that `torch.compile` made it from."""
    original = getattr(model, "_orig_mod", model)
    return original if isinstance(original, nn.Module) else model


def traced(
    watched: Watched, run: Callable[[], Any], mask: Tensor | None = None, call: Call | None = None
) -> tuple[Any, Traces]:
    """What `run`, which calls the model, returns, and what the layers said meanwhile.

    `call` is what is known of the call; None has it looked at.
    """
    watched._last.forget()  # its memory is free for this call, and a call that fails leaves none
    call = call or call_of(watched)  # first: a fit in another thread replaces the coders
    readings: dict[str, Any] = {}
    reading = Reading(watched, readings, projected, mask)
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    again = is_recomputed()
    if not watched.coding_enabled or watched._bypass or tracing or again:
        output = run()
        size = reading.size({}, output)
        return output, Traces({}, call._replace(size=size, remark=AGAIN if again else DISABLED))
    with watched._taps.watched(reading):
        # Dynamo gave this frame up, as for a break of the graph within, and goes on below it, where
        # no tap is heard. It is asked here: a function that asks would be compiled itself.
        if not torch.compiler.is_compiling() and get_eval_frame_callback() not in (None, False):
            watched._remarks.tell(BROKEN)
            run = torch.compiler.disable(run)
        output = run()
    with apart(grad=reading.grad):
        layers = reading.traces(output)
    known, where = watched.calibration, (watched.answer_path, watched.answer_width)
    predicted = predicted_classes(output, *where) if known and known.needs_predictions else None
    size = reading.size(layers, output)
    mask, masked = reading.batch.mask, reading.call.masked
    call = call._replace(size=size, mask=mask, masked=masked, predicted=predicted)
    certain, precision = reading.call.certain, reading.precision
    return output, Traces(layers, call._replace(tentative=not certain, precision=precision))


def call_of(watched: Watched) -> Call:
    """What is known of a call that is made now; within a graph the weights are not looked at."""
    condition = watched.condition
    return Call(
        remark=_complaint(watched, condition),
        codes=condition.codes,
        weights=condition.digest,
        looked=not torch.compiler.is_compiling(),
    )


def _complaint(watched: Watched, condition: Condition) -> str:
    """Why the codes do not hold now, in words; empty where they do, or nobody can tell."""
    if watched.calibration is None and condition.digest is None:
        return ""
    if not torch.compiler.is_compiling():
        if watched._last.ran_unwatched:
            watched._last.ran_unwatched = False
            condition.note_call()
        for name, remark in condition.changes():
            watched._remarks.tell(remark, about=f"{name} of {condition.number}")
    return condition.complaint(watched.model) or _trained_on(watched)


def _trained_on(watched: Watched) -> str:
    """Whether learned codebooks have changed since they were calibrated or loaded, in words."""
    if watched.calibration is None or torch.compiler.is_compiling():
        return ""
    if next(watched.coders.parameters(), None) is None:  # fitted codes learn nothing
        return ""
    watched._codebooks = watched._codebooks or Condition.of(watched.coders)
    return "" if watched._codebooks.has_weights_of(watched.coders) else TRAINED_ON


def projected(coder: Coder, activation: Any, batch: BatchShape) -> CodingTrace | Reduced:
    """Read while the layer runs: the next may change its activation in place."""
    return coder.project(activation, batch)


def _code(watched: Watched, coder: Coder, activation: Any, batch: BatchShape) -> CodingTrace:
    trace: CodingTrace = coder(activation, batch)
    told = call_of(watched)._replace(mask=batch.mask, masked=batch.mask is not None)
    return replace(trace, call=told)
