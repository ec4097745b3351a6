"""The pass of `calibrate` over its inputs, and what speaks against calibrating on them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nervecode.errors import InputError, NotReadyError, check_switch
from nervecode.layers.batch.sketch import InputSketch
from nervecode.layers.checks.batch_checks import BatchFindings, check_batches
from nervecode.layers.checks.recorded_calls import CallRecorder
from nervecode.layers.coders.fitted import FittedCoder
from nervecode.layers.coders.learned import LearnedCoder
from nervecode.layers.guard.condition import CHANGED, Condition
from nervecode.layers.passes.calibration_readings import Readings, Weights, read_calibration
from nervecode.layers.passes.one_pass import PassOptions, one_pass
from nervecode.layers.watched import Watched, tap
from nervecode.scoring.exact import made_exact
from nervecode.scoring.growth import remarks_on_addition, with_more
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.tables import CODE_LENGTH

if TYPE_CHECKING:
    from typing_extensions import Unpack

OVERLAP = 0.05  # the share of calibration inputs that `fit` may have seen, as duplicates are
REPEATED = 0.05  # the share of them that may be repetitions of others


def calibrate(
    watched: Watched,
    loader: Iterable[Any],
    method: str | None,
    by_class: bool,
    weights: Weights | None,
    add: bool,
    exact: bool,
    **options: Unpack[PassOptions],
) -> None:
    """Learn the ID distribution of the surprise from a loader.

    Args:
        watched: the model whose layers are watched.
        loader: held-out ID data in batches as for `fit`, whose labels are not used.
        method: `code_length` (default for fitted codes), `mean`, `max`, `total`, or the combined
            p-values of the layers: `fisher`, `simes`, `harmonic`.
        by_class: p-values within the predicted class, where calibration inputs suffice; see
            `nervecode.scoring.mondrian`.
        weights: gives the (B,) importance weights of a batch, above 0: the density of the inputs
            to be scored over that of the loader's, up to a factor.
        add: add to the calibration that there is, which is of the same method and kind. What was
            selected by its surprise, as what was not flagged, must not be added.
        exact: give `code_length` and the combined p-values the theorem of conformal p-values: a
            random half of the inputs makes the score and the other ranks it, so that the smallest
            p-value is of half as many; what is added later ranks.
        **options: `PassOptions`.

    Raises:
        InputError: a batch of another kind, an unknown method, fewer than two inputs (in each half
            of them), weights that do not fit, no predicted classes, or an addition of another kind.
        NotReadyError: nothing to add to.
    """
    for name, value in {"by_class": by_class, "add": add, "exact": exact}.items():
        check_switch(f"calibrate {name}", value)
    if weights is not None and not callable(weights):
        raise InputError(
            f"calibrate weights: found {type(weights).__name__}, allowed: a function of a batch"
        )
    tap(watched)  # of modules that were replaced since
    before = extended(watched, method, by_class, exact) if add else None
    inputs, recorder = InputSketch(), CallRecorder()
    with one_pass(watched, loader, "calibrate", **options) as batches:
        rows = read_calibration(watched, batches, weights, recorder, inputs)
        rows = _without(watched, rows, check_batches(watched, recorder, rows.layers), before)
    watched._last.forget()
    for remark in at_random(watched, rows):
        watched._remarks.tell(f"calibrate: {remark}", about="codes drawn at random")
    if before is None:
        calibrate_on(watched, rows, method, by_class, exact=exact)
    else:
        grown = with_more(before, rows.layers, rows.predicted, rows.weights, calls=rows.calls)
        _set(watched, grown, watched.condition)
        for remark in remarks_on_addition(before, rows.layers):
            watched._remarks.tell(f"calibrate add: {remark}", again=True)
    remarks = [
        *overlap(watched, inputs),
        *repetition(inputs, len(next(iter(rows.layers.values())))),
    ]
    for remark in remarks:
        watched._remarks.tell(f"calibrate: {remark}", again=True)


def calibrate_on(
    watched: Watched,
    rows: Readings,
    method: str | None,
    by_class: bool,
    *,
    standard: Mapping[str, Tensor] | None = None,
    exact: bool = False,
) -> None:
    """Calibrate on readings of ID data; `standard` is as of `LayerCalibration`.

    Warns of weights that have changed since the fit, and of what keeps the calibration from meaning
    what was asked for.
    """
    method = method or _default_method(watched)
    with torch.inference_mode(False):
        calibration = LayerCalibration(
            rows.layers,
            method,
            by_class=by_class,
            predicted=rows.predicted,
            weights=rows.weights,
            standard=standard,
            calls=rows.calls,
        )
        calibration = made_exact(calibration) if exact else calibration
    condition = Condition.of(watched.model, watched.condition.codes)
    if watched.condition.digest not in (None, condition.digest):
        watched._remarks.tell("calibrate: the weights have changed since the fit", again=True)
    _set(watched, calibration, condition)


def _set(watched: Watched, calibration: LayerCalibration, condition: Condition) -> None:
    watched.calibration, watched.condition = calibration, condition
    watched._codebooks = None  # looked at anew
    for remark in [*calibration.remarks(), *condition.remarks()]:
        watched._remarks.tell(f"calibrate: {remark}", again=True)


def _default_method(watched: Watched) -> str:
    learned = any(isinstance(coder, LearnedCoder) for coder in watched.coders.values())
    return "mean" if learned else CODE_LENGTH


def _without(
    watched: Watched, rows: Readings, found: BatchFindings, before: LayerCalibration | None
) -> Readings:
    """The readings without layers that say nothing sure of an input, or that were left out before.

    Layers that depend on the batch stay only where no other would, or where they stayed before.
    """
    known = None if before is None else before.layers.keys()
    out = {*found.others, *(() if known is None else rows.layers.keys() - known)}
    unsure = [name for name in found.dependent if name not in out]
    stay = not rows.layers.keys() - {*out, *unsure} or not (known or {*()}).isdisjoint(unsure)
    for remark in found.remarks(unsure, stay=stay):
        watched._remarks.tell(f"calibrate: {remark}", again=True)
    out |= set() if stay else {*unsure}
    layers = {name: pair for name, pair in rows.layers.items() if name not in out}
    if found.others and not layers:
        raise NotReadyError("calibrate: no watched layer has its rows in the order of the inputs")
    return rows._replace(layers=layers)


def extended(watched: Watched, method: str | None, by_class: bool, exact: bool) -> LayerCalibration:
    """The calibration that inputs can be added to.

    Raises:
        NotReadyError: there is none, or it is of other weights of the model.
        InputError: it is of another method or kind than is asked for.
    """
    calibration = watched.calibration
    if calibration is None:
        raise NotReadyError("calibrate add: nothing to add to; call calibrate(loader) first")
    if not watched.condition.has_weights_of(watched.model, rehash=True):
        raise NotReadyError(f"calibrate add: {CHANGED}")
    if method not in (None, calibration.method):
        raise InputError(
            f"calibrate add, method: found {method!r}, allowed: {calibration.method!r} as before"
        )
    for name, asked in (("by_class", by_class), ("exact", exact)):
        if asked and not getattr(calibration, name):
            raise InputError(f"calibrate add, {name}: found True, allowed: False as before")
    return calibration


def at_random(watched: Watched, rows: Readings) -> Iterator[str]:
    """A remark, where learned codes are what they were before anybody taught them."""
    coders = {name: watched.coder(name) for name in rows.layers}
    drawn = [n for n, c in coders.items() if isinstance(c, LearnedCoder) and c.is_untrained]
    if drawn:
        others = f" and {len(drawn) - 1} more" if len(drawn) > 1 else ""
        yield (
            f"the codes of layer {drawn[0]!r}{others} are as they were drawn at random, neither "
            "fitted nor trained nor loaded, so that their p-values tell next to nothing; call fit "
            "first"
        )


def overlap(watched: Watched, inputs: InputSketch) -> Iterator[str]:
    """A remark, where the codes were fitted to what they are to be calibrated on."""
    fitted = watched.fit_inputs
    if fitted is None:
        if any(isinstance(coder, FittedCoder) for coder in watched.coders.values()):
            yield "the codes do not tell which inputs fitted them; see that these are others"
    elif (share := fitted.share_of(inputs.hashes)) > OVERLAP:
        yield (
            f"{share:.0%} of the inputs were fitted to, and such p-values raise too many false "
            "alarms; calibrate on held-out inputs"
        )


def repetition(inputs: InputSketch, number: int) -> Iterator[str]:
    """A remark, where some of a number of inputs are repetitions of others.

    None where the model was called with more or fewer inputs than were calibrated on.
    """
    share = 1 - inputs.distinct / max(1, number)
    if inputs.added == number and share > REPEATED:
        yield (
            f"{share:.0%} of the {number} inputs repeat others: unless the inputs to be scored "
            f"repeat as often, the promise is that of {inputs.distinct} inputs"
        )
