"""The surprises of many layers become one number per input, by their mean, maximum or sum."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, did_you_mean
from nervecode.scoring.surprise import AggregatedSurprise

Traces = Mapping[str, CodingTrace | Tensor]


def stack_layers(traces: Traces) -> Tensor:
    """(B, L) from one (B, ...) surprise per layer; further dimensions are averaged.

    Raises:
        InputError: layers that disagree about B.
    """
    columns = []
    for name, trace in traces.items():
        surprise = trace.surprise if isinstance(trace, CodingTrace) else trace
        columns.append(surprise.flatten(1).mean(1) if surprise.ndim > 1 else surprise)
        if columns[-1].shape != columns[0].shape:
            raise InputError(
                f"layer {name!r}: found {len(columns[-1])} inputs, "
                f"allowed: {len(columns[0])} as in layer {next(iter(traces))!r}"
            )
    return torch.stack(columns, dim=1)


def finite_inputs(by_layer: Tensor) -> Tensor:
    """(B,) whether all of an input's (B, L) surprises are finite.

    NaN would pass for an unsurprising score: an input that is not counts as the most surprising.
    """
    return by_layer.isfinite().all(1)


def remark_on(by_layer: Tensor, layers: Sequence[str]) -> str:
    """Which of (B, L) surprises are not finite, in words; the first such layer is named.

    Only where looking at them does not make the host wait for a device.
    """
    if by_layer.device.type != "cpu" or torch.compiler.is_compiling():
        return ""
    if math.isfinite(by_layer.sum()):
        return ""
    finite = by_layer.isfinite()
    if finite.all():
        return ""
    name = layers[int(finite.all(0).int().argmin())]
    count = int((~finite.all(1)).sum())
    return (
        f"surprise of layer {name!r}: NaN or infinity in {count} of {len(finite)} inputs, "
        "which count as the most surprising"
    )


OVER_LAYERS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": lambda by_layer: by_layer.mean(1),
    "max": lambda by_layer: by_layer.amax(1),
    "total": lambda by_layer: by_layer.sum(1),
}
"""(N, L) -> (N,), by method."""


def mean_surprise(traces: Traces) -> AggregatedSurprise | None:
    """The mean over layers; None where there are no layers."""
    return combined(traces, "mean")


def max_surprise(traces: Traces) -> AggregatedSurprise | None:
    """The largest over layers; None where there are no layers."""
    return combined(traces, "max")


def total_surprise(traces: Traces) -> AggregatedSurprise | None:
    """The sum over layers, since bits add; None where there are no layers."""
    return combined(traces, "total")


def weighted_surprise(traces: Traces, weights: Mapping[str, float]) -> AggregatedSurprise | None:
    """The sum of weight times surprise over the layers that have a weight.

    Raises:
        InputError: a weight for a layer that is not there, or weights that are not finite.
    """
    for name, weight in weights.items():
        if name not in traces:
            raise InputError(f"weights: unknown layer {name!r}; {did_you_mean(name, traces)}")
        if not math.isfinite(weight):
            raise InputError(f"weights[{name!r}]: found {weight}, allowed: a finite number")
    chosen = {name: trace for name, trace in traces.items() if name in weights}
    values = [float(weights[name]) for name in chosen]
    return _reduced(chosen, "weighted", lambda by_layer: by_layer @ by_layer.new_tensor(values))


def combined(traces: Traces, method: str) -> AggregatedSurprise | None:
    """By a method of `OVER_LAYERS`; None where there are no layers."""
    return _reduced(traces, method, OVER_LAYERS[method])


def _reduced(
    traces: Traces, method: str, reduce: Callable[[Tensor], Tensor]
) -> AggregatedSurprise | None:
    if not traces:
        return None
    by_layer, layers = stack_layers(traces), tuple(traces)
    finite = finite_inputs(by_layer)
    return AggregatedSurprise(
        reduce(by_layer).masked_fill(~finite, torch.inf),
        by_layer,
        layers,
        method,
        valid=torch.ones_like(finite),
        remark=remark_on(by_layer.detach(), layers),
    )
