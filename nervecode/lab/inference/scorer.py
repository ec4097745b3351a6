"""The scorer: a calibrated model on inputs that it has not seen, a batch at a time."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import torch

from nervecode.errors import InputError
from nervecode.lab.inference.scored import Scored
from nervecode.lab.inference.source import Inputs, Source
from nervecode.lab.machine.progress import Progress
from nervecode.layers import WrappedModel

T = TypeVar("T")


def score_inputs(wrapped: WrappedModel, inputs: Inputs, *, alpha: float | None) -> Scored:
    """Score a batch with a calibrated model; a p-value of at most alpha raises the flag.

    An input's percentile, p-value and flag follow from its own surprise and the calibration.
    Without an alpha there are no flags.

    Raises:
        InputError: an alpha outside (0, 1).
    """
    if alpha is not None:
        check_alpha(alpha)
    device = next(wrapped.model.parameters()).device
    with torch.no_grad():
        logits, traces = wrapped.forward_with_trace(inputs.inputs.to(device))
        aggregated = wrapped.aggregate(traces)
        prediction = logits.argmax(1)
    p_value = aggregated.p_value.cpu().numpy()
    return Scored(
        np.array(inputs.ids),
        aggregated.surprise.float().cpu().numpy(),
        aggregated.percentile.cpu().numpy(),
        p_value,
        None if alpha is None else ~(p_value > alpha),  # one that is not valid is flagged too
        prediction.cpu().numpy(),
        aggregated.by_layer.float().cpu().numpy(),
        aggregated.layers,
    )


def score_source(
    wrapped: WrappedModel, source: Source, units: range, *, alpha: float | None, progress: Progress
) -> Iterator[Scored]:
    """Score a range of units of a source, in constant memory; unreadable inputs are left out.

    The next batch is read while the network sees this one.
    """
    batches = ((unit, batch) for unit in units for batch in source.read(unit))
    done = units.start
    progress.start("score", len(units))
    for unit, batch in ahead(batches):
        for name in batch.skipped:
            progress.tell(f"skipped: {name}")
        if batch.ids:
            scored = score_inputs(wrapped, batch, alpha=alpha)
            for name in scored.ids[~np.isfinite(scored.surprise)]:
                progress.tell(f"most surprising: {name} (NaN or infinity in a layer)")
            yield scored
        progress.advance(unit + 1 - done)
        done = unit + 1


def ahead(items: Iterator[T]) -> Iterator[T]:
    """The same items; the next one is made by a thread while this one is used."""
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(next, items, None)
        while (item := waiting.result()) is not None:
            waiting = pool.submit(next, items, None)
            yield item


def check_alpha(alpha: float) -> None:
    """Refuse an alpha outside (0, 1)."""
    if not 0 < alpha < 1:
        raise InputError(f"--alpha: found {alpha}, allowed: between 0 and 1")
