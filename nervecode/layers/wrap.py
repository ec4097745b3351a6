"""wrap, load and WrappedModel: watch layers of a model without changing what it returns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nervecode.core import CodingTrace, SoftAssignment
from nervecode.core.call import UNKNOWN_SHAPE
from nervecode.errors import InputError, NotReadyError
from nervecode.layers import storage
from nervecode.layers.aggregating import asked, given, surprise_of
from nervecode.layers.batch.parts import given_mask, mask_argument
from nervecode.layers.coders.fresh import fresh_coders
from nervecode.layers.guard.condition import CHANGED
from nervecode.layers.guard.restored import own_random_numbers
from nervecode.layers.passes import fitting
from nervecode.layers.passes.calibrating import calibrate, calibrate_on
from nervecode.layers.passes.calibration_readings import Readings, Weights
from nervecode.layers.select import Selector, need_module
from nervecode.layers.watched import Watched, watched_call
from nervecode.scoring.over_layers import stack_layers
from nervecode.scoring.surprise import AggregatedSurprise

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from nervecode.layers.export import ExportOptions
    from nervecode.layers.passes.fitting import FitPassOptions
    from nervecode.layers.passes.one_pass import PassOptions


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
        InputError: no module, a selector that matches nothing, or a size below 1.
    """
    with own_random_numbers():
        coders = fresh_coders(
            model,
            layers,
            num_codes=num_codes,
            coding_dim=coding_dim,
            assignment=assignment,
            detach=detach,
        )
    return WrappedModel(model, coders)


class WrappedModel(Watched):
    """A watched model that fits its codes, is calibrated, and says how surprised it is.

    Made by `wrap` and `load`.
    """

    def coding_loss(self) -> Tensor:
        """() the mean surprise of the last forward over inputs and layers, differentiable.

        Raises:
            NotReadyError: before any forward, or after one with coding switched off.
        """
        traces = self._last.get().layers
        if not traces:
            raise NotReadyError("coding_loss: no trace; run a forward with coding enabled first")
        return stack_layers(traces).mean()

    def fit(self, loader: Iterable[Any], **options: Unpack[FitPassOptions]) -> WrappedModel:
        """Fit class and background codes (recipe `bits`) in one streaming pass over ID data.

        Batches are (x, labels), a mapping of the model's arguments with the key `labels` or
        `label`, (mapping, labels), or x or a mapping alone for codes without classes. Options and
        errors are those of `nervecode.layers.passes.fitting.fit`.
        """
        fitting.fit(self, loader, **options)
        return self

    def calibrate(
        self,
        loader: Iterable[Any],
        *,
        method: str | None = None,
        by_class: bool = False,
        weights: Weights | None = None,
        add: bool = False,
        exact: bool = False,
        **options: Unpack[PassOptions],
    ) -> WrappedModel:
        """Learn the ID distribution of the surprise from held-out ID data, in batches as in `fit`.

        Options and errors are those of `nervecode.layers.passes.calibrating.calibrate`.
        """
        calibrate(self, loader, method, by_class, weights, add, exact, **options)
        return self

    def set_calibration(
        self,
        layers: Mapping[str, Tensor],
        predicted: Tensor | None = None,
        weights: Tensor | None = None,
        *,
        method: str | None = None,
        by_class: bool = False,
        standard: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Calibrate on scores that are there already: layer -> (n, 2) `readings` of ID data.

        (n,) predicted classes are needed where no layer is a label code; `standard` is as of
        `nervecode.scoring.layer_calibration.LayerCalibration`, all else as in `calibrate`.
        """
        for name in layers:
            self.coder(name)  # or none has this name
        rows = Readings(layers, predicted, weights)
        calibrate_on(self, rows, method, by_class, standard=standard)

    def score(
        self, *args: Any, mask: Tensor | None = None, **kwargs: Any
    ) -> tuple[Any, AggregatedSurprise]:
        """What the model returns, unchanged, and the surprise of the same inputs.

        Args:
            *args: what the model is given.
            mask: (B, ...) 1 at real positions, where the model is not told of them. A model with an
                argument `mask` is given it; padding is read by it too where calibration had it.
            **kwargs: what the model is given by keyword.

        Nothing waits for the device, or raises but for a mask of none or of others. `valid` is
        False, and p-values are NaN, where it is not of these inputs, this model, evaluation mode.
        """
        kwargs, positions = _with_mask(self, args, kwargs, mask)
        output, traces = watched_call(self, args, kwargs, positions)
        self._last.keep(traces)
        return output, surprise_of(self, traces)

    def surprise(self, method: str | None = None) -> AggregatedSurprise:
        """The surprise of the last call of this thread or asyncio task, one number per input.

        No method takes the calibrated one, or `mean` before; p-values come with that one alone.

        Raises:
            NotReadyError: no call, one of the model itself, or `code_length` before calibration.
            InputError: an unknown method.
        """
        return asked(self, self._last.get(), method)

    def aggregate(
        self, traces: Mapping[str, CodingTrace], method: str | None = None
    ) -> AggregatedSurprise:
        """The surprise of given traces; see `surprise`."""
        return asked(self, given(self, traces), method)

    def export(
        self, path: str | Path, example: Any, **options: Unpack[ExportOptions]
    ) -> dict[str, Any]:
        """Write model, codes and calibration as one graph, `.pt2` or `.onnx`: inputs to flag.

        Arguments and errors are those of `nervecode.layers.export.export`.
        """
        from nervecode.layers.export import export

        return export(self, path, example, **options)

    def save(self, path: str | Path) -> None:
        """Write coders and calibration (not the model) to a safetensors file."""
        storage.save(self, path)


def _with_mask(
    watched: Watched, args: tuple[Any, ...], kwargs: dict[str, Any], mask: Tensor | None
) -> tuple[dict[str, Any], Tensor | None]:
    """What `score` gives the model by keyword, and the real positions that padding is read by."""
    model = watched._arguments[""]
    if mask is not None and "mask" in model.names:
        kwargs, mask = {**kwargs, "mask": mask}, None
    calibration = watched.calibration  # which another thread may drop
    if calibration is not None and calibration.calls.mask_argument:
        return kwargs, mask_argument(model, args, kwargs)
    if mask is None:
        return kwargs, None
    real = given_mask(mask)
    if torch.compiler.is_compiling():
        return kwargs, real
    batch = UNKNOWN_SHAPE
    with suppress(Exception):  # as within the call: what it is given, the model may still take
        batch = model.batch(args, kwargs)
    if batch.sizes and real.shape[0] not in batch.sizes:
        raise InputError(f"mask: found {real.shape[0]} rows, in a call of {batch} inputs")
    return kwargs, real


def load(path: str | Path, model: nn.Module) -> WrappedModel:
    """Wrap a model with the coders and the calibration that `WrappedModel.save` wrote.

    Args:
        path: the file.
        model: a model with the layers that the file was made for.

    Raises:
        ArtifactError: the file is missing, damaged, or of another kind.
        InputError: no module, or one that lacks a layer of the file; the first one is named.
    """
    need_module(model)
    header, tensors = storage.read_tensors(Path(path), storage.FORMAT)
    wrapped = restore(header, tensors, model, source=str(path))
    if "weights" not in header and (wrapped.calibration or wrapped.fit_inputs):
        wrapped._remarks.tell(
            f"{path}: is of an earlier version, and does not tell which weights it is for"
        )
    elif not wrapped.condition.has_weights_of(model):
        wrapped._remarks.tell(f"{path}: {CHANGED}")
    return wrapped


def restore(
    header: dict[str, Any], tensors: dict[str, Tensor], model: nn.Module, *, source: str
) -> WrappedModel:
    """Wrap a model with what `storage.pack` made; `source` is for errors.

    Raises:
        InputError: another architecture; its first difference is named.
        ArtifactError: a header and tensors that do not fit each other.
    """
    return storage.unpack(header, tensors, model, WrappedModel, source=source)
