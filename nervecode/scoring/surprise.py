"""AggregatedSurprise: one surprise per input, and the decisions that calibration lets it take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.rates import is_within
from nervecode.scoring.false_alarms import alpha_within, rounded_up


class Calibrated(NamedTuple):
    """What calibration adds to B surprises.

    Attributes:
        percentile: (B,) float64.
        p_value: (B,) float64.
        smallest_alpha: below it some inputs could not be flagged, whatever their surprise.
        sizes: n, the number of calibration inputs, and that of each class with p-values of its own;
            empty for weighted ones, for which no number of inputs stands.
        group: (B,) int64, which of the sizes an input's p-value refers to; None for the first.
    """

    percentile: Tensor
    p_value: Tensor
    smallest_alpha: float
    sizes: tuple[int, ...]
    group: Tensor | None = None

    def threshold(self, alpha: float, confidence: float | None) -> float | Tensor:
        """() or (B,) what p-values are flagged up to; see `AggregatedSurprise.flag`."""
        if confidence is not None:
            return self._threshold_within(alpha, confidence)
        if not is_within(alpha, self.smallest_alpha):
            number = f"{min(self.sizes)}" if self.sizes else "the weighted"
            least = rounded_up(self.smallest_alpha)
            of_class = " of a class" if len(self.sizes) > 1 else ""
            raise InputError(
                f"flag alpha: found {alpha!r}, allowed: {least} to below 1, "
                f"as there are {number} calibration inputs{of_class}"
            )
        return alpha

    def _threshold_within(self, rate: float, confidence: float) -> float | Tensor:
        if not self.sizes:
            raise InputError(
                f"flag confidence: found {confidence!r}, allowed: None for weighted calibration "
                "inputs, whose false alarms have no Beta law"
            )
        alpha_within(min(self.sizes), rate, confidence=confidence)  # the first to be too few
        alphas = [alpha_within(n, rate, confidence=confidence) for n in self.sizes]
        if self.group is None:
            return alphas[0]
        table = torch.tensor(alphas, dtype=torch.float64)
        return table.to(self.group.device, non_blocking=True)[self.group]


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

    @property
    def pooled(self) -> Tensor:
        """(B,) bool: the p-value refers to all calibration inputs, not to those of its class.

        Raises:
            NotReadyError: before calibration, or for another method than was calibrated.
        """
        group = self._calibrated("pooled").group
        return torch.ones_like(self.valid) if group is None else group == 0

    def flag(self, alpha: float = 0.01, *, confidence: float | None = None) -> Tensor:
        """(B,) bool: a p-value of at most alpha, or an input of which nothing valid is known.

        Of inputs like the calibration data, at most a fraction alpha is flagged, on average over
        calibration sets. With a confidence, a smaller threshold is taken, so that for this share of
        the calibration sets the fraction is at most alpha (`nervecode.scoring.false_alarm_bound`);
        after `calibrate(by_class=True)` so it is within each class by itself.

        Args:
            alpha: the fraction.
            confidence: such as 0.95; None promises the average alone.

        Raises:
            InputError: an alpha or confidence outside (0, 1), an alpha that so few calibration
                inputs cannot give, or a confidence where these are weighted.
            NotReadyError: before calibration, or for another method than was calibrated.
        """
        calibrated = self._calibrated("flag")
        return ~(calibrated.p_value > calibrated.threshold(alpha, confidence))

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
            group = calibrated.group
            calibrated = calibrated._replace(
                percentile=calibrated.percentile.view(-1, *places),
                p_value=calibrated.p_value.view(-1, *places),
                group=None if group is None else group.view(-1, *places),
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
