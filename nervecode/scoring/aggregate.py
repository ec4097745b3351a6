"""Aggregation: the layers of one forward become one surprise per input, calibrated or not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.scoring.grid import grid_of, on_grid
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.over_layers import OVER_LAYERS, combined
from nervecode.scoring.surprise import AggregatedSurprise, unknown_surprise
from nervecode.scoring.tables import METHODS


def aggregate(
    traces: Mapping[str, CodingTrace],
    calibration: LayerCalibration | None,
    method: str | None,
    *,
    size: int | None = None,
    predicted: Tensor | None = None,
    remark: str = "",
) -> AggregatedSurprise:
    """The layers of one forward as one surprise per input.

    Args:
        traces: layer -> trace.
        calibration: what percentiles and p-values refer to, if there is one.
        method: one of `METHODS`; None takes the calibrated one, or `mean` without a calibration.
        size: B, where no layer tells.
        predicted: (B,) predicted classes; see `LayerCalibration.needs_predictions`.
        remark: why nothing of this call is valid, if that is known already.

    Raises:
        InputError: an unknown method.
        NotReadyError: a method that needs a calibration for it.
    """
    grid = grid_of(traces)
    traces = on_grid(traces, grid) if grid else traces
    size = None if size is None else size * math.prod(grid)
    if predicted is not None and grid:
        predicted = predicted.repeat_interleave(math.prod(grid))
    return _of_rows(traces, calibration, method, size, predicted, remark).at(grid)


def _of_rows(
    traces: Mapping[str, CodingTrace],
    calibration: LayerCalibration | None,
    method: str | None,
    size: int | None,
    predicted: Tensor | None,
    remark: str,
) -> AggregatedSurprise:
    """The same, of layers of as many rows each."""
    if calibration is not None and method in (None, calibration.method):
        return calibration.score(traces, size=size, predicted=predicted, remark=remark)
    if method is not None and method not in METHODS:
        raise InputError(f"surprise method: found {method!r}; {did_you_mean(method, METHODS)}")
    if method not in (None, *OVER_LAYERS):
        raise NotReadyError(
            f"surprise: {method} is not calibrated; call calibrate(loader, method={method!r})"
        )
    result = combined(traces, method or "mean")
    if result is None:
        return unknown_surprise(size or 0, remark or "no layer was coded")
    if not remark:
        return result
    nothing = torch.full_like(result.surprise, torch.nan)
    return replace(result, surprise=nothing, valid=torch.zeros_like(result.valid), remark=remark)
