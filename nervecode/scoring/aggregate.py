"""Aggregation: the surprises of many layers become one number per input."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError, did_you_mean

Traces = Mapping[str, CodingTrace | Tensor]


class Calibrated(NamedTuple):
    """What calibration adds to B surprises.

    Attributes:
        percentile: (B,) float64.
        p_value: (B,) float64.
        number: n, of the calibration inputs.
    """

    percentile: Tensor
    p_value: Tensor
    number: int


@dataclass(frozen=True)
class AggregatedSurprise:
    """One surprise per input, and where it came from; tensors stay on the device.

    Of codes by position, one per place: what is (B,) here is (B, T) or (B, H, W) then.

    Attributes:
        surprise: (B,) aggregated over layers; higher is more surprising, infinity where a layer
            said NaN or infinity, and NaN where it is not valid.
        by_layer: (B, L) the surprise of each layer; NaN for a layer that was not coded.
        layers: the L layer names, in the model's order.
        method: how the layers were aggregated.
        valid: (B,) bool; False where the numbers would not be for this input, model or mode.
        calibrated: what calibration adds; None before.
        remark: why inputs are not valid or not finite, in words; empty where none is.
    """

    surprise: Tensor
    by_layer: Tensor
    layers: tuple[str, ...]
    method: str
    valid: Tensor
    calibrated: Calibrated | None = None
    remark: str = ""

    @property
    def score(self) -> Tensor:
        """(B,) the same as `surprise`."""
        return self.surprise

    @property
    def percentile(self) -> Tensor:
        """(B,) fraction, 0 to 1, of ID calibration inputs that were less surprising or equal.

        Raises:
            NotReadyError: before calibration, or for another method than was calibrated.
        """
        return self._calibrated("percentile").percentile

    @property
    def p_value(self) -> Tensor:
        """(B,) conformal p-value; NaN where it is not valid.

        Raises:
            NotReadyError: before calibration, or for another method than was calibrated.
        """
        return self._calibrated("p_value").p_value

    def flag(self, alpha: float = 0.01) -> Tensor:
        """(B,) bool: a p-value of at most alpha, or an input of which nothing valid is known.

        Of inputs like the calibration data, at most a fraction alpha is flagged.

        Raises:
            InputError: an alpha outside (0, 1), or below any p-value that calibration can give.
            NotReadyError: before calibration, or for another method than was calibrated.
        """
        calibrated = self._calibrated("flag")
        smallest = 1 / (calibrated.number + 1)
        if not smallest <= alpha < 1:
            raise InputError(
                f"flag alpha: found {alpha}, allowed: {smallest:.3g} to 1, "
                f"as there are {calibrated.number} calibration inputs"
            )
        return ~(calibrated.p_value > alpha)

    def layer(self, name: str) -> Tensor:
        """(B,) the surprise of one layer.

        Raises:
            InputError: an unknown layer.
        """
        if name not in self.layers:
            raise InputError(f"layer: unknown {name!r}; {did_you_mean(name, self.layers)}")
        return self.by_layer[..., self.layers.index(name)]

    def at(self, places: tuple[int, ...]) -> AggregatedSurprise:
        """Rows as (B, *places), in all that is (B,) otherwise; (B, *places, L) by layer."""
        if not places:
            return self
        calibrated = self.calibrated
        if calibrated is not None:
            calibrated = Calibrated(
                calibrated.percentile.view(-1, *places),
                calibrated.p_value.view(-1, *places),
                calibrated.number,
            )
        return replace(
            self,
            surprise=self.surprise.view(-1, *places),
            by_layer=self.by_layer.view(-1, *places, len(self.layers)),
            valid=self.valid.view(-1, *places),
            calibrated=calibrated,
        )

    def _calibrated(self, what: str) -> Calibrated:
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


def unknown_surprise(size: int, remark: str) -> AggregatedSurprise:
    """The surprise of inputs of which no layer said anything, and why, in words."""
    nothing = torch.full((size,), torch.nan)
    valid = torch.zeros(size, dtype=torch.bool)
    return AggregatedSurprise(nothing, nothing.new_empty(size, 0), (), "mean", valid, remark=remark)


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
    finite = by_layer.isfinite()
    if finite.all():
        return ""
    name = layers[int(finite.all(0).int().argmin())]
    count = int((~finite.all(1)).sum())
    return (
        f"surprise of layer {name!r}: NaN or infinity in {count} of {len(finite)} inputs, "
        "which count as the most surprising"
    )


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
