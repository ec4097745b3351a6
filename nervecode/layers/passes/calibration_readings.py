"""The readings of a calibration pass: what is kept of every input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.core.positions import PositionSample
from nervecode.errors import NotReadyError
from nervecode.layers.batch.answer import answer_of, predicted_classes
from nervecode.layers.batch.batches import Batch
from nervecode.layers.batch.model_call import ModelCall
from nervecode.layers.batch.parts import mask_argument
from nervecode.layers.batch.sketch import InputSketch
from nervecode.layers.checks.recorded_calls import CallRecorder
from nervecode.layers.watched import Watched, eager, traced
from nervecode.scoring.calibrated_calls import UNKNOWN_CALLS, CalibratedCalls, common_to
from nervecode.scoring.grid import one_place_each
from nervecode.scoring.mondrian import check_weights
from nervecode.scoring.readings import readings

Weights = Callable[[Any], Tensor]


class Readings(NamedTuple):
    """What calibration keeps of its inputs.

    Attributes:
        layers: layer -> `readings`, of the layers that were coded in every batch.
        predicted: (n,) predicted classes; None where the output does not tell.
        weights: (n,) importance weights; None where none are asked for.
        calls: what the calls of all batches had in common.
    """

    layers: Mapping[str, Tensor]
    predicted: Tensor | None
    weights: Tensor | None
    calls: CalibratedCalls = UNKNOWN_CALLS


def read_calibration(
    watched: Watched,
    batches: Iterable[Batch],
    weights: Weights | None,
    recorder: CallRecorder,
    inputs: InputSketch,
) -> Readings:
    """The readings of all inputs; `recorder` keeps some of the calls, `inputs` sees all of them.

    Raises:
        NotReadyError: no layer was coded, or there is no input.
    """
    sample, read = PositionSample(1, seed=1), list[_Read]()
    where = watched.answer_path, watched.answer_width
    for number, batch in enumerate(batches):
        call = ModelCall()
        with inputs.watching(eager(watched.model)), call.watching(eager(watched.model)):
            given, traces = traced(watched, batch.run, batch.mask)
        output = call.output if call.number == 1 else given
        answer = answer_of(output, *where)
        recorder.record(call, batch.mask, answer, traces)
        if remark := remark_on_shared(watched, call, answer, traces.call.size):
            watched._remarks.tell(f"calibrate: {remark}", about="a shared argument")
        layers, real = one_place_each(traces.layers, traces.call, sample)
        classes = predicted_classes(output, *where)
        classes = predicted_classes(given, *where) if classes is None else classes
        own = None if weights is None else _weights_of(batch, weights, traces.call.size, number)
        read.append(
            _Read(
                traces.call.size,
                {name: readings(name, trace) for name, trace in layers.items()},
                classes if classes is None or real is None else classes[real.to(classes.device)],
                own if own is None or real is None else own[real],
                CalibratedCalls(
                    masked=traces.call.masked and not traces.call.tentative,
                    mask_argument=_is_given_too(watched, call, batch.mask),
                    precision=traces.call.precision,
                    ran=frozenset(traces.layers),
                ),
            )
        )
    return _together(watched, _without_odd(watched, read))


class _Read(NamedTuple):
    """What is kept of a batch of `size` inputs; see `Readings`."""

    size: int | None
    layers: dict[str, Tensor]
    predicted: Tensor | None
    weights: Tensor | None
    call: CalibratedCalls


def _together(watched: Watched, read: list[_Read]) -> Readings:
    """The readings of all batches."""
    if read and all(part.size == 0 for part in read):
        raise NotReadyError(f"calibrate: found no input in {len(read)} batches, allowed: two")
    whole = _whole(watched, [part.layers for part in read])
    told = [part.predicted for part in read if part.predicted is not None]
    weights = [part.weights for part in read if part.weights is not None]
    calls = common_to([part.call for part in read])
    if len(precisions := sorted({part.call.precision for part in read} - {""})) > 1:
        watched._remarks.tell(
            f"calibrate: the layers ran in {' and in '.join(precisions)} precision, as by "
            "torch.autocast, so that a call in either is taken for one of them"
        )
    number = len(next(iter(whole.values()), ()))  # fewer than inputs, where some are all padding
    return Readings(
        whole,
        torch.cat(told) if told and sum(map(len, told)) == number else None,
        torch.cat(weights) if weights else None,
        calls,
    )


def _without_odd(watched: Watched, read: list[_Read]) -> list[_Read]:
    """The batches without those of one input that lack layers which all of several have."""
    several = [set(part.layers) for part in read if part.size and part.size > 1]
    common = set.intersection(*several) if several else set()
    odd = {n: common - set(p.layers) for n, p in enumerate(read) if p.size == 1}
    for number, missing in odd.items():
        for name in [name for name in (*watched.layer_names, *common) if name in missing][:1]:
            watched._remarks.tell(
                f"calibrate: batch {number}, of one input, is left out, since layer {name!r} "
                "cannot be coded in it, as in a model that squeezes; a loader with drop_last=True "
                "gives no such batch",
                again=True,
            )
    return [part for number, part in enumerate(read) if not odd.get(number)]


def remark_on_shared(
    watched: Watched, call: ModelCall, answer: Tensor | None, size: int | None
) -> str:
    """Whether a call's first argument is shared by its inputs, as it seems, in words.

    The model answers for as many as another argument has then.
    """
    given = [x for x in (*call.args, *call.kwargs.values()) if isinstance(x, Tensor) and x.ndim]
    if answer is None or not answer.ndim or call.number != 1 or len(given) < 2:
        return ""
    rows = len(answer)
    seen = [len(x) for x in given]
    first_is_steps = watched._arguments[""].sequence_first
    if first_is_steps or rows == size or seen[0] != size or size == 1 or rows not in seen:
        return ""
    return (
        f"the layers are read as {size} inputs, as many as the first argument has, and the model "
        f"answers for {rows}, as many as another has: if all inputs share the first, call= has to "
        "give the model that other one first, by name"
    )


def _is_given_too(watched: Watched, call: ModelCall, mask: Tensor | None) -> bool:
    """Whether the real positions of a batch are those that the model's argument `mask` tells."""
    if mask is None:
        return False
    told = mask_argument(watched._arguments[""], call.args, call.kwargs)
    return told is not None and torch.equal(told.to(mask.device), mask)


def _weights_of(batch: Batch, weights: Weights, size: int | None, number: int) -> Tensor:
    """(B,) float64 the weights of a batch."""
    return check_weights(weights(batch.given), size or 0, f" in batch {number}")


def _whole(watched: Watched, rows: list[dict[str, Tensor]]) -> dict[str, Tensor]:
    """Layer -> the readings of all batches; layers that some batches lack are left out, by name."""
    if not any(rows):
        raise NotReadyError("calibrate: no watched layer ran, or coding is disabled")
    for name in dict.fromkeys([*watched.layer_names, *chain(*rows)]):
        number = sum(name in row for row in rows)
        if number < len(rows):
            watched._remarks.tell(
                f"calibrate: layer {name!r} was coded in {number} of {len(rows)} batches, and is "
                "left out of the score"
            )
    whole = [name for name in rows[0] if all(name in row for row in rows)]
    return {name: torch.cat([row[name] for row in rows]) for name in whole}
