"""LayerCalibration: the ID distribution of every layer's surprise, and of their aggregate."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError, did_you_mean
from nervecode.scoring.aggregate import (
    AGGREGATIONS,
    AggregatedSurprise,
    Calibrated,
    remark_on,
    stack_layers,
    unknown_surprise,
)
from nervecode.scoring.code_length import LABEL, CodeLengthScore, readings
from nervecode.scoring.grid import grid_of, on_grid
from nervecode.scoring.p_values import COMBINERS
from nervecode.scoring.percentiles import (
    ALPHA,
    EmpiricalPercentileCalibrator,
    p_values_among,
    percentiles_among,
)

CODE_LENGTH = "code_length"
METHODS = (CODE_LENGTH, *AGGREGATIONS, *COMBINERS)


class LayerCalibration:
    """The ID calibration scores of every layer, and of their aggregate.

    Attributes:
        layers: name -> `readings` of all calibration inputs.
        known: those of the inputs that are finite in every layer, which are calibrated on.
        num_samples: n, the number of these.
        smallest_alpha: 1 / (n + 1); at an alpha below it nothing is flagged.

    Args:
        layers: name -> `readings` of the calibration inputs.
        method: how layers are aggregated: `code_length`, `mean`, `max`, `total`, or `fisher`,
            `simes`, `harmonic`: -log2 of the combined p-values of the layers, in bits.

    Raises:
        InputError: an unknown method, or fewer than two finite inputs.
        NotReadyError: `code_length` for learned codes, which have no regret.
    """

    def __init__(self, layers: Mapping[str, Tensor], method: str) -> None:
        if method not in METHODS:
            allowed = did_you_mean(method, METHODS)
            raise InputError(f"calibrate method: found {method!r}; {allowed}")
        if method == CODE_LENGTH and any(pair.shape[1] < 2 for pair in layers.values()):
            raise NotReadyError("calibrate: code_length needs fitted codes; call fit(loader) first")
        self.layers = {name: pair.cpu() for name, pair in layers.items()}
        self.method = method
        self.known = _finite_rows(self.layers)
        self._tables = _Tables.of(self.known, method)
        self._placed: dict[torch.device, _Tables] = {}
        self.calibrator = EmpiricalPercentileCalibrator()
        state = self.calibrator.fit(self.aggregate(self.known), aggregation=method)
        self.num_samples, self.smallest_alpha = state.num_samples, state.smallest_alpha
        self._tables = self._tables._replace(scores=state.scores)

    def remarks(self) -> list[str]:
        """What keeps this calibration from meaning what was asked for, in words."""
        n, total = self.num_samples, len(next(iter(self.layers.values())))
        remarks = []
        if n < total:
            remarks.append(f"{total - n} of {total} inputs have NaN or infinity, and are left out")
        if self.smallest_alpha > ALPHA:
            remarks.append(
                f"{n} inputs give no p-value below 1/{n + 1} = {self.smallest_alpha:.2g}, so that "
                f"a smaller alpha flags nothing; {math.ceil(1 / ALPHA) - 1} serve alpha {ALPHA}"
            )
        return remarks

    def score(
        self, traces: Mapping[str, CodingTrace], *, size: int | None = None, remark: str = ""
    ) -> AggregatedSurprise:
        """Aggregate traces as the calibration scores were, with percentile and p-value.

        Nothing is valid, and p-values are NaN, where a calibrated layer is missing or of another
        batch than the others. Layers that were not calibrated are left out.

        Args:
            traces: layer -> trace of one call.
            size: B, where no layer tells.
            remark: why nothing of this call is valid, if that is known already.
        """
        known = {name: traces[name] for name in self.layers if name in traces}
        remark = remark or self._misfit(known)
        if remark:
            return self._invalid(known, size, remark)
        by_layer, layers = stack_layers(known), tuple(known)
        tables = self._on(by_layer.device)
        with torch.no_grad():
            pairs = {name: readings(name, trace) for name, trace in known.items()}
            scores = tables.aggregate(pairs, self.method)
            calibrated = Calibrated(
                percentiles_among(tables.scores, scores),
                p_values_among(tables.scores, scores),
                self.num_samples,
            )
        return AggregatedSurprise(
            scores.to(by_layer),
            by_layer,
            layers,
            self.method,
            valid=torch.ones_like(scores, dtype=torch.bool),
            calibrated=calibrated,
            remark=remark_on(by_layer.detach(), layers),
        )

    def _misfit(self, traces: Mapping[str, CodingTrace]) -> str:
        """Why these layers are not those that were calibrated, in words."""
        missing = [name for name in self.layers if name not in traces]
        if missing:
            return f"layer {missing[0]!r} was calibrated and did not run, or could not be coded"
        sizes = {name: len(trace.surprise) for name, trace in traces.items()}
        first = next(iter(sizes))
        for name, number in sizes.items():
            if number != sizes[first]:
                return f"layer {name!r} has {number} inputs, layer {first!r} {sizes[first]}"
        return ""

    def _invalid(
        self, traces: Mapping[str, CodingTrace], size: int | None, remark: str
    ) -> AggregatedSurprise:
        """A result of which nothing is valid but what each layer says by itself."""
        columns = {name: trace.surprise for name, trace in traces.items()}
        like = next(iter(columns.values()), torch.empty(size or 0))
        rows = len(like) if size is None else size
        nothing = like.new_full((rows,), torch.nan)
        by_layer = [
            columns[name] if name in columns and len(columns[name]) == rows else nothing
            for name in self.layers
        ]
        unknown = nothing.double()
        return AggregatedSurprise(
            nothing,
            torch.stack(by_layer, dim=1),
            tuple(self.layers),
            self.method,
            valid=torch.zeros_like(nothing, dtype=torch.bool),
            calibrated=Calibrated(unknown, unknown, self.num_samples),
            remark=f"{remark}: no p-value is given",
        )

    def aggregate(self, pairs: Mapping[str, Tensor]) -> Tensor:
        """(N,) float64 scores from `readings` of every calibrated layer; infinite for NaN."""
        return self._tables.aggregate(
            {name: pairs[name].cpu() for name in self.layers}, self.method
        )

    def _on(self, device: torch.device) -> _Tables:
        """The tables where the scores are, so that neither waits for the other."""
        if device not in self._placed:
            self._placed[device] = _moved(self._tables, device)
        return self._placed[device]


class _Tables(NamedTuple):
    """What of the calibration inputs a score is made from.

    Attributes:
        scores: (n,) their sorted aggregates; empty while these are made.
        code_length: for the method of that name.
        by_layer: (L, n) sorted surprises of each layer, for combined p-values.
    """

    scores: Tensor
    code_length: CodeLengthScore | None
    by_layer: Tensor | None

    @classmethod
    def of(cls, layers: Mapping[str, Tensor], method: str) -> _Tables:
        code_length = by_layer = None
        if method == CODE_LENGTH:
            code_length = CodeLengthScore.fit(*_terms(layers))
        elif method in COMBINERS:
            surprises = torch.stack([pair[:, 0] for pair in layers.values()])
            by_layer = surprises.double().sort(dim=1).values
        return cls(torch.empty(0, dtype=torch.float64), code_length, by_layer)

    def aggregate(self, pairs: Mapping[str, Tensor], method: str) -> Tensor:
        """(N,) float64 scores from `readings` of the calibrated layers, in their order."""
        unknown = ~_finite(pairs)
        return self._aggregate(pairs, unknown, method).masked_fill(unknown, torch.inf)

    def _aggregate(self, pairs: Mapping[str, Tensor], unknown: Tensor, method: str) -> Tensor:
        if self.code_length is not None:
            bits, regret, label = _terms(pairs)
            label = None if label is None else _filled(label, unknown)
            return self.code_length(_filled(bits, unknown), _filled(regret, unknown), label)
        pairs = {name: _filled(pair, unknown) for name, pair in pairs.items()}
        if self.by_layer is not None:
            surprises = torch.stack([pair[:, 0] for pair in pairs.values()])
            return -COMBINERS[method](p_values_among(self.by_layer, surprises).T).log2()
        result = AGGREGATIONS[method]({name: pair[:, 0] for name, pair in pairs.items()})
        assert result is not None
        return result.surprise.double()


def _moved(value: Any, device: torch.device) -> Any:
    """Nested tuples of tensors on a device."""
    if isinstance(value, Tensor):
        return value.to(device)
    return type(value)(*[_moved(v, device) for v in value]) if isinstance(value, tuple) else value


def aggregate(
    traces: Mapping[str, CodingTrace],
    calibration: LayerCalibration | None,
    method: str | None,
    *,
    size: int | None = None,
    remark: str = "",
) -> AggregatedSurprise:
    """The layers of one forward as one surprise per input.

    Args:
        traces: layer -> trace.
        calibration: what percentiles and p-values refer to, if there is one.
        method: one of `METHODS`; None takes the calibrated one, or `mean` without a calibration.
        size: B, where no layer tells.
        remark: why nothing of this call is valid, if that is known already.

    Raises:
        InputError: an unknown method.
        NotReadyError: a method that needs a calibration for it.
    """
    grid = grid_of(traces)
    traces = on_grid(traces, grid)
    size = None if size is None else size * math.prod(grid)
    return _aggregate(traces, calibration, method, size, remark).at(grid)


def _aggregate(
    traces: Mapping[str, CodingTrace],
    calibration: LayerCalibration | None,
    method: str | None,
    size: int | None,
    remark: str,
) -> AggregatedSurprise:
    """The same, of layers of as many rows each."""
    if calibration is not None and method in (None, calibration.method):
        return calibration.score(traces, size=size, remark=remark)
    if method is not None and method not in METHODS:
        raise InputError(f"surprise method: found {method!r}; {did_you_mean(method, METHODS)}")
    if method not in (None, *AGGREGATIONS):
        raise NotReadyError(
            f"surprise: {method} is not calibrated; call calibrate(loader, method={method!r})"
        )
    result = AGGREGATIONS[method or "mean"](traces)
    return unknown_surprise(size or 0, remark or "no layer was coded") if result is None else result


def _finite(pairs: Mapping[str, Tensor]) -> Tensor:
    """(N,) whether all readings of an input are finite."""
    return torch.cat(list(pairs.values()), dim=1).isfinite().all(1)


def _filled(readings: Tensor, unknown: Tensor) -> Tensor:
    """(N, ...) readings with 0 for the (N,) unknown inputs."""
    return readings.masked_fill(unknown.view(-1, *[1] * (readings.ndim - 1)), 0.0)


def _finite_rows(pairs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The readings of the inputs that are finite in every layer.

    Raises:
        InputError: there is none; a layer that is never finite is named.
    """
    finite = _finite(pairs)
    if len(finite) and not finite.any():
        name = next(
            (n for n, p in pairs.items() if not p.isfinite().all(1).any()), next(iter(pairs))
        )
        raise InputError(f"surprise of layer {name!r}: found NaN or infinity in every input")
    return {name: pair[finite] for name, pair in pairs.items()}


def _terms(pairs: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor | None]:
    """(N, L) code lengths, (N, L) regrets, and (N, 2) label readings where there are any."""
    coded = torch.stack([pair for name, pair in pairs.items() if not name.endswith(LABEL)], dim=1)
    labels = [pair for name, pair in pairs.items() if name.endswith(LABEL)]
    return coded[..., 0], coded[..., 1], labels[0] if labels else None
