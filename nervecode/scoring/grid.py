"""Layers read by position, on the grid of the finest of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from nervecode.core import Call, CodingTrace
from nervecode.core.positions import PositionSample
from nervecode.core.reduce import fitting_mask


def grid_of(traces: Mapping[str, CodingTrace]) -> tuple[int, ...]:
    """The places of the layer that has most of them; () where no layer is read by position."""
    places = [trace.places for trace in traces.values() if trace.places]
    return max(places, key=math.prod, default=())


def on_grid(traces: Mapping[str, CodingTrace], grid: tuple[int, ...]) -> dict[str, CodingTrace]:
    """Surprise and regret of each layer at the places of a grid: those of its nearest place.

    Layers with another number of dimensions are left as they are.
    """
    return {name: _resized(trace, grid) for name, trace in traces.items()}


def one_place_each(
    traces: Mapping[str, CodingTrace], call: Call, sample: PositionSample
) -> tuple[dict[str, CodingTrace], Tensor | None]:
    """One place of each input, drawn at random, the same in all layers; real ones alone.

    Layers that are not read by position stay as they are.

    Args:
        traces: layer -> trace.
        call: what is known of the call that they are of: its mask, (B, *places) true at real
            positions, if any.
        sample: what draws.

    Returns:
        The traces, and the (n,) inputs that have a place; None where none is read by position.
    """
    grid = grid_of(traces)
    if not grid:
        return dict(traces), None
    mask = call.mask
    number = next(trace.inputs for trace in traces.values() if trace.places)
    real = None if mask is None else fitting_mask(mask, (number, *grid), call.tentative)
    inputs, places = sample.draw(number, math.prod(grid), real)
    rows = inputs * math.prod(grid) + places
    drawn = {
        name: _rows(trace, rows) if trace.places else trace
        for name, trace in on_grid(traces, grid).items()
    }
    return drawn, inputs


def _rows(trace: CodingTrace, rows: Tensor) -> CodingTrace:
    rows = rows.to(trace.surprise.device)
    regret = None if trace.regret is None else trace.regret[rows]
    return replace(trace, surprise=trace.surprise[rows], regret=regret, places=())


def _resized(trace: CodingTrace, grid: tuple[int, ...]) -> CodingTrace:
    if trace.places == grid or len(trace.places) != len(grid):
        return trace
    regret = None if trace.regret is None else _nearest(trace.regret, trace.places, grid)
    surprise = _nearest(trace.surprise, trace.places, grid)
    return replace(trace, surprise=surprise, regret=regret, places=grid)


def _nearest(rows: Tensor, places: tuple[int, ...], grid: tuple[int, ...]) -> Tensor:
    """(B x places,) -> (B x grid,)."""
    values = rows.view(-1, *places)
    for dim, (coarse, fine) in enumerate(zip(places, grid, strict=True), start=1):
        steps = torch.arange(fine, device=rows.device)
        values = values.index_select(dim, (2 * steps + 1) * coarse // (2 * fine))
    return values.flatten()
