"""wrap and WrappedModel: watch layers of a model without changing what it returns."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core import CodingTrace, Reducer, SoftAssignment
from nervecode.core.precision import RANK
from nervecode.core.reduce import LENGTH_POWER
from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.layers.coder import Begun, Coder, FittedCoder, LabelCoder, LearnedCoder, finish
from nervecode.layers.fitter import CodeFitter
from nervecode.layers.names import key_of, layer_name, module_name, numbered
from nervecode.layers.select import Selector, select_layers
from nervecode.layers.state import with_prefix, without_prefix
from nervecode.layers.taps import TapSet, activation_of
from nervecode.layers.width import output_layout
from nervecode.scoring.aggregate import AGGREGATIONS, AggregatedSurprise, stack_layers
from nervecode.scoring.code_length import readings
from nervecode.scoring.layer_calibration import CODE_LENGTH, METHODS, LayerCalibration


def wrap(
    model: nn.Module,
    layers: Selector = "all_blocks",
    *,
    num_codes: int = 16,
    coding_dim: int = 8,
    assignment: SoftAssignment | None = None,
    detach: bool = False,
) -> WrappedModel:
    """Watch layers of a model.

    The wrapped model returns what the model returns. Fresh from here it has learned codebooks
    (recipe `v0_1_1`, trained through `coding_loss`); `fit` replaces them by fitted codes
    (recipe `bits`).

    Args:
        model: any module; it is not changed, but for forward hooks that `unwrap` takes off.
        layers: what to watch, see `nervecode.layers.select_layers`.
        num_codes: K of each learned codebook.
        coding_dim: width of the learned projections.
        assignment: temperature and weights of the learned codebooks' surprise.
        detach: learn the codebooks without a gradient into the model.

    Raises:
        InputError: a selector that matches nothing, or a size below 1.
    """
    coders: dict[str, Coder] = {}
    picks = _picks(model, layers)
    for name, module in select_layers(model, layers).items():
        width, channel_dim = output_layout(module)
        coders[name] = LearnedCoder(
            width,
            num_codes=num_codes,
            coding_dim=coding_dim,
            assignment=assignment,
            reducer=Reducer("mean", channel_dim=channel_dim, width=width, pick=picks.get(name)),
            detach=detach,
        )
    return WrappedModel(model, coders)


class WrappedModel(nn.Module):
    """A model, and a coder for each watched layer. Made by `wrap`.

    Attributes:
        model: the model itself.
        coders: one coder per watched layer; see `layer_names`.
        coding_enabled: set by `enable_coding` and `disable_coding`.
    """

    def __init__(self, model: nn.Module, coders: Mapping[str, Coder]) -> None:
        super().__init__()
        self.model = model
        self.coders = nn.ModuleDict({key_of(name): coder for name, coder in coders.items()})
        self.coding_enabled = True
        self._calibration: LayerCalibration | None = None
        self._bypassed = 0
        self._skipped: set[str] = set()
        self._local = threading.local()
        self._compiled_traces: dict[str, CodingTrace] | None = None
        self._taps = TapSet({})
        self._tap(coders)
        self._register_state_dict_hook(without_prefix)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(with_prefix)  # type: ignore[no-untyped-call]

    # Running the model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the model returns, unchanged; the traces are kept for `surprise`."""
        if not torch.compiler.is_compiling():
            self._forget()  # its memory is free for this call, and a call that fails leaves none
        output, traces = self.forward_with_trace(*args, **kwargs)
        if torch.compiler.is_compiling():
            self._compiled_traces = traces
        else:
            self._local.traces = traces
        return output

    def forward_with_trace(self, *args: Any, **kwargs: Any) -> tuple[Any, dict[str, CodingTrace]]:
        """What the model returns, and the trace of each watched layer, by name.

        The traces belong to this call, whatever other threads do. A module that runs twice in
        one forward gives `name` and `name#2`. Empty while coding is disabled or bypassed.
        """
        if not self.coding_enabled or self._bypassed:
            return self.model(*args, **kwargs), {}
        begun: dict[str, CodingTrace | Begun] = {}

        def visit(name: str, inputs: tuple[Any, ...], output: Any) -> None:
            self._visit(name, inputs, output, begun, _begin)

        if torch.compiler.is_compiling():
            self._taps.traced_visit = visit
            output = self.model(*args, **kwargs)
            self._taps.traced_visit = None
        else:
            with self._taps.watched(visit):
                output = self.model(*args, **kwargs)
        return output, finish(begun)

    @contextmanager
    def recording(
        self, read: Callable[[Coder, Any], Any] | None = None
    ) -> Iterator[dict[str, Any]]:
        """Within the block, read the watched layers of any forward of the model, in this thread.

        Several wrappers of one model can record the same forward. The mapping that the block gets
        is filled as the model runs: layer name -> CodingTrace, or what `read(coder, activation)`
        returns. Clear it between forwards.
        """
        found: dict[str, Any] = {}

        def visit(name: str, inputs: tuple[Any, ...], output: Any) -> None:
            self._visit(name, inputs, output, found, read or _code)

        with self._taps.watched(visit):
            yield found

    def _visit(
        self,
        name: str,
        inputs: tuple[Any, ...],
        output: Any,
        found: dict[str, Any],
        read: Callable[[Coder, Any], Any],
    ) -> None:
        """Read one tapped module; what cannot be coded is skipped with a warning, once."""
        name = numbered(name, found)
        coder = self._coder(name)
        if coder is None:
            return
        try:
            found[name] = read(coder, coder.activation(inputs, output))
        except InputError as error:
            self._skip(name, str(error))

    def _skip(self, name: str, why: str) -> None:
        if name not in self._skipped:
            self._skipped.add(name)
            warnings.warn(f"layer {name!r} is not coded: {why}", stacklevel=2)

    def _coder(self, name: str) -> Coder | None:
        """The coder of a layer; a repeated layer that has none of its own uses the first's."""
        for candidate in (key_of(name), key_of(name.split("#")[0])):
            if candidate in self.coders:
                coder = self.coders[candidate]
                assert isinstance(coder, Coder)
                return coder
        return None

    # Learning the codes

    def coding_loss(self) -> Tensor:
        """() the mean surprise of the last forward over inputs and layers, differentiable.

        Raises:
            NotReadyError: before any forward, or after one with coding switched off.
        """
        traces = self._last_layer_traces
        if not traces:
            raise NotReadyError("coding_loss: no trace; run a forward with coding enabled first")
        return stack_layers(traces).mean()

    def fit(
        self,
        loader: Iterable[Any],
        *,
        reduce: str = "mean_std",
        length_power: float = LENGTH_POWER,
        rank: int = RANK,
        codes_per_class: int = 8,
        label_code: bool = True,
        num_classes: int | None = None,
    ) -> WrappedModel:
        """Fit class and background codes (recipe `bits`) in one streaming pass.

        Args:
            loader: batches (x, y), or x alone for a code without classes; ID training data.
            reduce: how an activation becomes a vector, see `nervecode.core.Reducer`.
            length_power: from 0 to 1; each vector keeps its direction, and its L2 norm is raised
                to this power. 1 leaves it as it is, 0 scales it to unit norm.
            rank: directions of a layer's covariance with a variance of their own; the others
                share one. A smaller rank is quicker.
            codes_per_class: centres per class, at most, by k-means on the whitened vectors of
                a sample: the first 4096 / K of each class, so the loader should be shuffled.
            label_code: code the label of the head too, where the model ends in a linear layer of
                `num_classes` outputs and labels are given; see `nervecode.core.LabelCode`.
            num_classes: number of classes; None takes the width of the model's output.

        Raises:
            InputError: labels out of range, or activations with NaN or infinity.
            NotReadyError: fewer than two inputs.
        """
        fitter = CodeFitter(
            self,
            reduce=reduce,
            length_power=length_power,
            rank=rank,
            codes_per_class=codes_per_class,
            label_code=label_code,
        )
        for x, labels in self._batches(loader):
            with fitter.watching():
                output = self.model(x)
            classes = num_classes or (1 if labels is None else _width(output))
            fitter.update(labels, classes)
        fitter.finish()
        return self

    def replace_coders(self, coders: Mapping[str, Coder]) -> None:
        """Watch the same layers with other coders; a calibration of the old ones is dropped."""
        self.coders = nn.ModuleDict({key_of(name): coder for name, coder in coders.items()})
        self.coders.to(self._device)
        self._calibration = None
        self._tap(coders)

    def _tap(self, names: Iterable[str]) -> None:
        """See that the module behind each name has its tap; `name#2` shares that of `name`."""
        modules = dict(self.model.named_modules())
        self._taps.add({(tap := n.split("#")[0]): modules[module_name(tap)] for n in names})

    def _batches(self, loader: Iterable[Any]) -> Iterator[tuple[Tensor, Tensor | None]]:
        """(x, labels or None) on the model's device, in evaluation mode and without gradients."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        try:
            with torch.no_grad():
                for batch in loader:
                    x, y = _split(batch)
                    yield x.to(self._device), None if y is None else y.to(self._device)
        finally:
            for module, training in modes.items():
                module.training = training

    # Calibration and scores

    def calibrate(self, loader: Iterable[Any], *, method: str | None = None) -> WrappedModel:
        """Learn the ID distribution of the surprise from held-out ID data.

        Args:
            loader: batches (x, y) or x; not the data that fitted the codes.
            method: `code_length` (default for fitted codes), `mean`, `max`, `total`, or the
                combined p-values of the layers: `fisher`, `simes`, `harmonic`.

        Raises:
            InputError: an unknown method, or fewer than two inputs.
        """
        rows = []
        for x, _ in self._batches(loader):
            _, traces = self.forward_with_trace(x)
            rows.append({name: readings(name, trace) for name, trace in traces.items()})
        if not rows or not rows[0]:
            raise NotReadyError("calibrate: the loader gave no batch, or coding is disabled")
        stacked = {n: torch.cat([row[n] for row in rows]) for n in rows[0]}
        self.set_calibration(stacked, method=method)
        return self

    @property
    def calibration(self) -> LayerCalibration:
        """What `calibrate` learned.

        Raises:
            NotReadyError: before calibration.
        """
        if self._calibration is None:
            raise NotReadyError("not calibrated; call calibrate(loader) first")
        return self._calibration

    def set_calibration(self, layers: Mapping[str, Tensor], *, method: str | None = None) -> None:
        """Calibrate on scores that are there already: layer -> `readings` of ID data."""
        self._calibration = LayerCalibration(layers, method or self._default_method())

    def surprise(self, method: str | None = None) -> AggregatedSurprise:
        """The surprise of the last forward of this thread, one number per input.

        Args:
            method: as in `calibrate`; None takes the one calibrated for, or `mean` before
                calibration. Percentiles and p-values come with the calibrated method alone.

        Raises:
            NotReadyError: before any forward, or `code_length` before calibration.
            InputError: an unknown method.
        """
        return self.aggregate(self._last_layer_traces, method)

    def aggregate(
        self, traces: Mapping[str, CodingTrace], method: str | None = None
    ) -> AggregatedSurprise:
        """The surprise of given traces; see `surprise`."""
        if not traces:
            raise NotReadyError("surprise: no trace; run a forward with coding enabled first")
        calibration = self._calibration
        if calibration is not None and method in (None, calibration.method):
            return calibration.score(traces)
        if method is not None and method not in METHODS:
            raise InputError(f"surprise method: found {method!r}; {did_you_mean(method, METHODS)}")
        if method not in (None, *AGGREGATIONS):
            raise NotReadyError(
                f"surprise: {method} is not calibrated; call calibrate(loader, method={method!r})"
            )
        result = AGGREGATIONS[method or "mean"](traces)
        assert result is not None
        return result

    def _default_method(self) -> str:
        fitted = all(isinstance(coder, (FittedCoder, LabelCoder)) for coder in self.coders.values())
        return CODE_LENGTH if fitted else "mean"

    # Switches

    def enable_coding(self) -> None:
        """Watch again."""
        self.coding_enabled = True

    def disable_coding(self) -> None:
        """Stop watching; traces of earlier calls are dropped."""
        self.coding_enabled = False
        self._forget()

    @contextmanager
    def bypass(self) -> Iterator[None]:
        """Do not watch within the block; blocks may be nested."""
        self._bypassed += 1
        self._forget()
        try:
            yield
        finally:
            self._bypassed -= 1

    def unwrap(self) -> nn.Module:
        """Take the hooks off and return the model as it was."""
        self._taps.remove(self.model)
        self._forget()
        return self.model

    def _forget(self) -> None:
        self._local.traces = {}
        self._compiled_traces = None

    # What a PyTorch user expects of a module

    @property
    def layer_names(self) -> tuple[str, ...]:
        """The watched layers, in the model's order."""
        return tuple(layer_name(key) for key in self.coders)

    @property
    def _last_layer_traces(self) -> dict[str, CodingTrace]:
        if self._compiled_traces is not None:
            return self._compiled_traces
        return getattr(self._local, "traces", {})

    @property
    def _device(self) -> torch.device:
        tensors = chain(self.model.parameters(), self.model.buffers(), [torch.empty(0)])
        return next(tensors).device

    def coder(self, name: str) -> Coder:
        """The coder of a watched layer.

        Raises:
            InputError: a layer that is not watched.
        """
        coder = self._coder(name)
        if coder is None:
            raise InputError(f"layer: unknown {name!r}; {did_you_mean(name, self.layer_names)}")
        return coder

    def coder_specs(self) -> dict[str, dict[str, Any]]:
        """Layer name -> what rebuilds its coder, as plain JSON values."""
        return {name: self.coder(name).spec() for name in self.layer_names}

    def save(self, path: str | Path) -> None:
        """Write coders and calibration (not the model) to a safetensors file."""
        from nervecode.layers.storage import save

        save(self, path)

    def __getattr__(self, name: str) -> Any:
        """Anything that the wrapper has not is the model's."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "model":
                raise
            return getattr(super().__getattr__("model"), name)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles carry codes and calibration, and no trace."""
        return {**self.__dict__, "_local": None, "_compiled_traces": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore, with room for this process's traces."""
        super().__setstate__(  # type: ignore[no-untyped-call]
            {**state, "_local": threading.local()}
        )

    def __del__(self) -> None:
        """No hook outlives its wrapper; replicas of DataParallel share the original's hooks."""
        parts = self.__dict__
        if "_taps" in parts and "model" in parts["_modules"] and not parts.get("_is_replica"):
            parts["_taps"].remove(parts["_modules"]["model"])


def _begin(coder: Coder, activation: Any) -> CodingTrace | Begun:
    return coder.begin(activation)


def _code(coder: Coder, activation: Any) -> CodingTrace:
    trace: CodingTrace = coder(activation)
    return trace


def _split(batch: Any) -> tuple[Tensor, Tensor | None]:
    """(x, labels) of a batch: a tensor, (x,) or (x, labels, ...)."""
    if isinstance(batch, Tensor):
        return batch, None
    return batch[0], batch[1] if len(batch) > 1 else None


def _width(output: Any) -> int:
    logits = activation_of(output)
    if logits is None or logits.ndim != 2:
        raise InputError("fit: the model's output is not (B, classes); pass num_classes")
    return logits.shape[1]


def _picks(model: nn.Module, layers: Selector) -> dict[str, str | int]:
    """Layer -> the part of its output that is watched, where `layers` is a mapping."""
    if not isinstance(layers, Mapping):
        return {}
    return {name: part for one, part in layers.items() for name in select_layers(model, one)}
