"""LayerCalibration: the ID distribution of every layer's surprise, and of their aggregate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError
from nervecode.rates import check_rate
from nervecode.scoring.calibrated_calls import UNKNOWN_CALLS, CalibratedCalls
from nervecode.scoring.calibration_checks import check, finite_rows, misfit
from nervecode.scoring.false_alarms import rank_of
from nervecode.scoring.mondrian import ALL, Mondrian, check_weights, is_class
from nervecode.scoring.over_layers import OVER_LAYERS, remark_on, stack_layers
from nervecode.scoring.percentiles import EmpiricalPercentileCalibrator, Steps, p_values_among
from nervecode.scoring.readings import LABEL, LayerReadings, finite_readings
from nervecode.scoring.remarks import (
    remarks_on_classes,
    remarks_on_constants,
    remarks_on_number,
    remarks_on_weights,
)
from nervecode.scoring.surprise import AggregatedSurprise, Calibrated
from nervecode.scoring.tables import Tables, moved


class LayerCalibration:
    """The ID calibration scores of every layer, and of their aggregate.

    Attributes:
        layers: name -> `readings` of all calibration inputs.
        scores: (N,) float64 scores of all calibration inputs, each among the others alone where
            there is no `standard`; infinite for those that are not finite in every layer.
        num_samples: n, the number of these.
        smallest_alpha: 1 / (n + 1), the smallest p-value; where there are classes, of the smallest
            of these.
        predicted: (N,) predicted classes of all calibration inputs; None without `by_class`.
        weights: (N,) their importance weights; None where all weigh the same.
        standard: name -> readings of the inputs that scores are made of; None where they are made
            of the calibration inputs themselves.
        calls: as given.

    Args:
        layers: name -> `readings` of the calibration inputs.
        method: how layers are aggregated: `code_length`, `mean`, `max`, `total`, or `fisher`,
            `simes`, `harmonic`: -log2 of the combined p-values of the layers, in bits.
        by_class: p-values within the predicted class, see `Mondrian`.
        predicted: (N,) predicted classes, where no layer is a label code.
        weights: (N,) importance weights, above 0, see `Mondrian`.
        standard: name -> `readings` of further ID inputs, by which scores are made, so that none of
            the calibration inputs is; see `nervecode.scoring.exact`.
        calls: what the calls that read the calibration inputs had in common.

    Raises:
        InputError: an unknown method, fewer than two finite inputs, no predicted classes, or
            weights that do not fit.
        NotReadyError: `code_length` for learned codes, which have no regret.
    """

    def __init__(
        self,
        layers: Mapping[str, Tensor],
        method: str,
        *,
        by_class: bool = False,
        predicted: Tensor | None = None,
        weights: Tensor | None = None,
        standard: Mapping[str, Tensor] | None = None,
        calls: CalibratedCalls = UNKNOWN_CALLS,
    ) -> None:
        check(layers, method, standard)
        self.layers = {name: pair.cpu() for name, pair in layers.items()}
        self.method, self.calls = method, calls
        self.standard = standard and {name: standard[name].cpu() for name in layers}
        self._placed: dict[torch.device, Tables] = {}
        known = _known(self.layers)
        if self.standard is None:
            self._tables = Tables.of(known, method)
            scores = self._tables.held_out(known, method)
        else:
            self._tables = Tables.of(_known(self.standard), method)
            scores = self._tables.scores(known, method)
        finite = finite_readings(self.layers)
        self.scores = torch.full(finite.shape, math.inf, dtype=torch.float64, device="cpu")
        self.scores[finite] = scores
        state = EmpiricalPercentileCalibrator().fit(scores, aggregation=method)
        self._ordered = state.scores
        self.num_samples, self.smallest_alpha = state.num_samples, state.smallest_alpha
        self._tables = self._tables._replace(decision=Steps.p_value_and_percentile(state.scores))
        self.by_class, self.predicted = by_class, None
        if by_class:
            self.predicted = LayerReadings.read(self.layers).predicted(predicted).cpu()
        self.weights = None if weights is None else check_weights(weights, len(finite))
        self.sizes: tuple[int, ...] = (self.num_samples,)
        if by_class or weights is not None:
            self._group(scores, finite)

    def __getstate__(self) -> dict[str, Any]:
        """Without the tables on devices, which a file would name where they are no more."""
        return vars(self) | {"_placed": {}}

    def _group(self, scores: Tensor, finite: Tensor) -> None:
        """Lay out the (n,) scores of `finite` inputs in groups, and by their weights."""
        kept = scores.isfinite()
        parts = [None if p is None else p[finite][kept] for p in (self.predicted, self.weights)]
        groups = Mondrian.of(scores[kept], *parts)
        self._tables = self._tables._replace(groups=groups)
        self.smallest_alpha = groups.smallest()
        self.sizes = () if self.weights is not None else tuple(groups.totals.long().tolist())

    @property
    def class_sizes(self) -> dict[int, int]:
        """Class -> n of each with p-values of its own; empty without `by_class` or with weights."""
        groups = self._tables.groups
        if groups is None or not self.by_class or self.weights is not None:
            return {}
        own = enumerate(groups.group_of[:-1].tolist())
        return {label: self.sizes[group] for label, group in own if group}

    @property
    def exact(self) -> bool:
        """Whether no calibration input makes the score, so that p-values have their theorem."""
        return self.standard is not None or self.method in OVER_LAYERS

    @property
    def needs_predictions(self) -> bool:
        """Whether `score` has to be told the predicted classes, since no layer is a label code."""
        return self.by_class and not any(name.endswith(LABEL) for name in self.layers)

    def threshold(self, alpha: float, *, predicted: int | None = None) -> float:
        """The score above which p <= alpha; infinite where none is.

        That score itself is the largest that is not flagged.

        Args:
            alpha: in (0, 1).
            predicted: a class, whose threshold is its own after `by_class`, where it is not pooled;
                None for that of all calibration inputs.

        Raises:
            InputError: an alpha outside (0, 1), or a class where p-values are of all inputs.
        """
        check_rate("threshold alpha", alpha)
        if predicted is not None and not (self.by_class and is_class(predicted)):
            allowed = "a class from 0 on" if self.by_class else "None without by_class"
            raise InputError(f"threshold predicted: found {predicted!r}, allowed: {allowed}")
        groups = self._tables.groups
        if groups is not None:
            group = (
                ALL
                if predicted is None
                else int(groups.group(torch.tensor(predicted, device="cpu")))
            )
            return groups.threshold(alpha, group)
        rank = rank_of(self.num_samples, alpha)
        return float(self._ordered[-rank]) if rank else math.inf

    def remarks(self) -> list[str]:
        """What keeps this calibration from meaning what was asked for, in words."""
        finite = finite_readings(self.layers)
        return [
            *remarks_on_number(self.num_samples, len(finite)),
            *remarks_on_constants(finite_rows(self.layers)),
            *remarks_on_weights(
                None if self.weights is None else self.weights[finite], self.smallest_alpha
            ),
            *remarks_on_classes(None if self.predicted is None else self.predicted[finite]),
        ]

    def score(
        self,
        traces: Mapping[str, CodingTrace],
        *,
        size: int | None = None,
        predicted: Tensor | None = None,
        remark: str = "",
    ) -> AggregatedSurprise:
        """Aggregate traces as the calibration scores were, with percentile and p-value.

        Nothing is valid, and p-values are NaN, where a calibrated layer is missing or of another
        batch than the others. Layers that were not calibrated are left out.

        Args:
            traces: layer -> trace of one call.
            size: B, where no layer tells.
            predicted: (B,) predicted classes; see `needs_predictions`.
            remark: why nothing of this call is valid, if that is known already.
        """
        known = {name: traces[name] for name in self.layers if name in traces}
        remark = remark or misfit(known, self.layers, predicted, needed=self.needs_predictions)
        if remark:
            return _invalid(self, known, size, remark)
        by_layer, layers = stack_layers(known).detach(), tuple(known)  # and no graph is kept
        tables = self._on(by_layer.device)
        with torch.no_grad():
            readings = LayerReadings.of(known, by_layer)
            scores = tables.scores(readings, self.method)
            calibrated = self._calibrated(tables, readings, scores, predicted)
        return AggregatedSurprise(
            scores.to(by_layer),
            by_layer,
            layers,
            self.method,
            valid=torch.ones_like(scores, dtype=torch.bool),
            calibrated=calibrated,
            remark=remark_on(by_layer, layers),
        )

    def _calibrated(
        self, tables: Tables, readings: LayerReadings, scores: Tensor, predicted: Tensor | None
    ) -> Calibrated:
        """Percentiles and p-values of (B,) scores of inputs with the given readings."""
        assert tables.decision is not None
        p_value, percentile = tables.decision(scores.expand(2, -1)).unbind(0)
        group = None
        if tables.groups is not None:
            group = torch.zeros_like(scores, dtype=torch.long)
            if self.by_class:
                group = tables.groups.group(readings.predicted(predicted))
            p_value = tables.groups.p_values(scores, group)
        return Calibrated(percentile, p_value, self.smallest_alpha, self.sizes, group)

    def scores_of(self, pairs: Mapping[str, Tensor]) -> Tensor:
        """(N,) float64 scores from `readings` of every calibrated layer; infinite for NaN."""
        readings = LayerReadings.read({name: pairs[name].cpu() for name in self.layers})
        return self._tables.scores(readings, self.method)

    def p_values(self, scores: Tensor) -> Tensor:
        """(N,) p-values of (N,) scores among all calibration inputs, of any class or weight."""
        return p_values_among(self._ordered, scores.cpu())

    def _on(self, device: torch.device) -> Tables:
        """The tables where the scores are, so that neither waits for the other."""
        if device not in self._placed:
            self._placed[device] = moved(self._tables, device)
        return self._placed[device]


def alike(
    calibration: LayerCalibration,
    layers: Mapping[str, Tensor],
    predicted: Tensor | None,
    weights: Tensor | None,
    standard: Mapping[str, Tensor] | None,
    calls: CalibratedCalls,
) -> LayerCalibration:
    """A calibration of the same kind on other inputs."""
    return LayerCalibration(
        layers,
        calibration.method,
        by_class=calibration.by_class,
        predicted=predicted,
        weights=weights,
        standard=standard,
        calls=calls,
    )


def _known(layers: Mapping[str, Tensor]) -> LayerReadings:
    """The readings of the finite inputs, as scores are made and ranked of them."""
    return LayerReadings.read(finite_rows(layers)).raised()


def _invalid(
    calibration: LayerCalibration, traces: Mapping[str, CodingTrace], size: int | None, remark: str
) -> AggregatedSurprise:
    """A result of which nothing is valid but what each layer says by itself."""
    columns = {name: trace.surprise.detach() for name, trace in traces.items()}
    like = next(iter(columns.values()), torch.empty(size or 0))
    rows = len(like) if size is None else size
    nothing = like.new_full((rows,), torch.nan)
    by_layer = [
        columns[name] if name in columns and len(columns[name]) == rows else nothing
        for name in calibration.layers
    ]
    unknown = nothing.double()
    return AggregatedSurprise(
        nothing,
        torch.stack(by_layer, dim=1),
        tuple(calibration.layers),
        calibration.method,
        valid=torch.zeros_like(nothing, dtype=torch.bool),
        calibrated=Calibrated(unknown, unknown, calibration.smallest_alpha, calibration.sizes),
        remark=f"{remark}: no p-value is given",
    )
