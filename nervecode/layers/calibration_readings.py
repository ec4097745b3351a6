"""The readings of a calibration pass: what is kept of every input."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.core.positions import PositionSample
from nervecode.errors import InputError, NotReadyError
from nervecode.layers.answer import answer_of, predicted_classes
from nervecode.layers.batch_parts import mask_argument
from nervecode.layers.batches import Batch
from nervecode.layers.kept_calls import KeptCalls
from nervecode.layers.own_call import OwnCall
from nervecode.layers.sketch import InputSketch
from nervecode.layers.watched import Watched, eager, traced
from nervecode.scoring.grid import one_place_each
from nervecode.scoring.readings import readings

Weights = Callable[[Any], Tensor]


class Readings(NamedTuple):
    """What calibration keeps of its inputs.

    Attributes:
        layers: layer -> `readings`, of the layers that were coded in every batch.
        predicted: (n,) predicted classes; None where the output does not tell.
        weights: (n,) importance weights; None where none are asked for.
        masked: whether every batch came with a mask of real positions.
        mask_argument: whether each of these was the argument `mask` of the model too.
    """

    layers: Mapping[str, Tensor]
    predicted: Tensor | None
    weights: Tensor | None
    masked: bool = False
    mask_argument: bool = False


def read_calibration(
    watched: Watched,
    batches: Iterable[Batch],
    weights: Weights | None,
    kept: KeptCalls,
    inputs: InputSketch,
) -> Readings:
    """The readings of all inputs; `kept` keeps some of the batches, `inputs` sees all of them."""
    rows, predicted, weighed, sample = [], [], [], PositionSample(1, seed=1)
    masked, given_too = [], []
    where = watched.answer_path, watched.answer_width
    for batch in batches:
        call = OwnCall()
        with inputs.watching(eager(watched.model)), call.watching(eager(watched.model)):
            given, traces = traced(watched, batch.run, batch.mask)
        output = call.output if call.number == 1 else given
        kept.see(call, batch.mask, answer_of(output, *where), traces)
        layers = one_place_each(traces.layers, traces.call.mask, sample)
        rows.append({name: readings(name, trace) for name, trace in layers.items()})
        classes = predicted_classes(output, *where)
        predicted.append(predicted_classes(given, *where) if classes is None else classes)
        masked.append(traces.call.masked and not traces.call.tentative)
        given_too.append(_is_given_too(watched, call, batch.mask))
        if weights is not None:
            weighed.append(_weights_of(batch, weights))
    told = [classes for classes in predicted if classes is not None]
    whole = _whole(watched, rows)
    number = len(next(iter(whole.values()), ()))  # fewer than inputs, where some are all padding
    return Readings(
        whole,
        torch.cat(told) if told and sum(map(len, told)) == number else None,
        torch.cat(weighed) if weights is not None else None,
        all(masked),
        all(given_too),
    )


def _is_given_too(watched: Watched, call: OwnCall, mask: Tensor | None) -> bool:
    """Whether the real positions of a batch are those that the model's argument `mask` tells."""
    if mask is None:
        return False
    told = mask_argument(watched._arguments[""], call.args, call.kwargs)
    return told is not None and torch.equal(told.to(mask.device), mask)


def _weights_of(batch: Batch, weights: Weights) -> Tensor:
    """(B,) float64 the weights of a batch."""
    given = weights(batch.given)
    try:
        values = torch.as_tensor(given).detach().double().cpu()
    except (TypeError, ValueError, RuntimeError):
        raise InputError(
            f"calibrate weights: found {type(given).__name__} for a batch, allowed: (B,) numbers"
        ) from None
    if values.ndim != 1:
        raise InputError(
            f"calibrate weights: found shape {tuple(values.shape)} for a batch, allowed: (B,), a "
            "weight for each input"
        )
    return values


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
