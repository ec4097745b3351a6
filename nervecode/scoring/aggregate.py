"""Aggregation: the surprises of many layers become one number per input."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError, did_you_mean

Traces = Mapping[str, CodingTrace | Tensor]


@dataclass(frozen=True)
class AggregatedSurprise:
    """One surprise per input, and where it came from.

    Attributes:
        surprise: (B,) aggregated over layers; higher is more surprising.
        by_layer: (B, L) the surprise of each layer.
        layers: the L layer names, in the model's order.
        method: how the layers were aggregated.
        calibrated: (percentile, p_value) of each input; None before calibration.
    """

    surprise: Tensor
    by_layer: Tensor
    layers: tuple[str, ...]
    method: str
    calibrated: tuple[Tensor, Tensor] | None = None

    @property
    def percentile(self) -> Tensor:
        """(B,) fraction (0 to 1) of ID calibration inputs that were no more surprising.

        Raises:
            NotReadyError: before calibration, or for another method than was calibrated.
        """
        return self._calibrated("percentile")[0]

    @property
    def p_value(self) -> Tensor:
        """(B,) conformal p-value.

        Raises:
            NotReadyError: before calibration, or for another method than was calibrated.
        """
        return self._calibrated("p_value")[1]

    def _calibrated(self, what: str) -> tuple[Tensor, Tensor]:
        if self.calibrated is None:
            raise NotReadyError(
                f"{what}: the aggregate {self.method!r} is not calibrated; "
                "call wrapped.calibrate(loader) on held-out ID data first"
            )
        return self.calibrated

    @property
    def num_layers(self) -> int:
        """L, the number of layers."""
        return len(self.layers)


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


def finite_inputs(by_layer: Tensor, layers: Iterable[str]) -> Tensor:
    """(B,) whether all of an input's surprises are finite; warns of inputs for which they are not.

    NaN would pass for an unsurprising score, so that such an input counts as surprising as any.

    Args:
        by_layer: (B, L) surprises.
        layers: the L names; the first that has NaN or infinity is named.
    """
    finite = by_layer.isfinite()
    if not finite.all():
        name = list(layers)[int(finite.all(0).int().argmin())]
        count = int((~finite.all(1)).sum())
        warnings.warn(
            f"surprise of layer {name!r}: NaN or infinity in {count} of {len(finite)} inputs, "
            "which count as the most surprising",
            stacklevel=2,
        )
    return finite.all(1)


def mean_surprise(traces: Traces) -> AggregatedSurprise | None:
    """The mean over layers; None where there are no layers."""
    return _aggregate("mean", traces, lambda by_layer: by_layer.mean(1))


def max_surprise(traces: Traces) -> AggregatedSurprise | None:
    """The largest over layers; None where there are no layers."""
    return _aggregate("max", traces, lambda by_layer: by_layer.amax(1))


def total_surprise(traces: Traces) -> AggregatedSurprise | None:
    """The sum over layers, since bits add; None where there are no layers."""
    return _aggregate("total", traces, lambda by_layer: by_layer.sum(1))


def weighted_surprise(traces: Traces, weights: Mapping[str, float]) -> AggregatedSurprise | None:
    """The sum of weight times surprise over the layers that have a weight.

    Raises:
        InputError: a weight for a layer that is not there, or weights that are not finite.
    """
    for name, weight in weights.items():
        if name not in traces:
            raise InputError(f"weights: unknown layer {name!r}; {did_you_mean(name, traces)}")
        if not torch.isfinite(torch.tensor(float(weight))):
            raise InputError(f"weights[{name!r}]: found {weight}, allowed: a finite number")
    chosen = {name: trace for name, trace in traces.items() if name in weights}
    values = [float(weights[name]) for name in chosen]
    return _aggregate("weighted", chosen, lambda by_layer: by_layer @ by_layer.new_tensor(values))


AGGREGATIONS: dict[str, Callable[[Traces], AggregatedSurprise | None]] = {
    "mean": mean_surprise,
    "max": max_surprise,
    "total": total_surprise,
}


def _aggregate(
    method: str, traces: Traces, reduce: Callable[[Tensor], Tensor]
) -> AggregatedSurprise | None:
    if not traces:
        return None
    by_layer = stack_layers(traces)
    surprise = reduce(by_layer).masked_fill(~finite_inputs(by_layer, traces), torch.inf)
    return AggregatedSurprise(surprise, by_layer, tuple(traces), method)
