"""Calibration: scores of held-out ID data turn any score into a percentile and a p-value."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nervecode.errors import ArtifactError, InputError, NotReadyError
from nervecode.files import replacing

ALPHA = 0.01  # the rate of false alarms that a calibration should be large enough for


def check_tensor(name: str, value: object) -> None:
    """Refuse what is no tensor, as an array of NumPy; `name` is the argument's."""
    if not isinstance(value, Tensor):
        found = type(value).__name__
        raise InputError(f"{name}: found {found}, allowed: a tensor, as of torch.as_tensor")


def conformal_p_values(calibration: Tensor, scores: Tensor) -> Tensor:
    """(1 + #{calibration >= s}) / (n + 1) for each score.

    For exchangeable ID inputs, P(p <= alpha) <= alpha at every alpha, so flagging p <= alpha
    raises false alarms on at most that fraction (Vovk, Gammerman and Shafer 2005, section 2.2).

    Args:
        calibration: (n,) scores of ID calibration inputs, any order.
        scores: any shape; higher means more surprising, and NaN as surprising as any.

    Returns:
        p-values in the shape of `scores`, float64.

    Raises:
        InputError: no tensor.
    """
    for name, given in (("calibration", calibration), ("scores", scores)):
        check_tensor(name, given)
    return p_values_among(calibration.double().sort().values, _surprising(scores))


def p_values_among(ordered: Tensor, scores: Tensor) -> Tensor:
    """`conformal_p_values` from (..., n) sorted scores, of (..., N) scores without NaN; float64."""
    n = ordered.shape[-1]
    return (1 + n - number_below(ordered, scores)).double() / (n + 1)


def percentiles_among(ordered: Tensor, scores: Tensor) -> Tensor:
    """Fraction of (n,) sorted scores at or below each of (N,) scores without NaN; float64."""
    return number_below(ordered, scores, equal=True).double() / len(ordered)


def number_below(ordered: Tensor, scores: Tensor, *, equal: bool = False) -> Tensor:
    """(..., N) int64: how many of (..., n) sorted numbers are below each of (..., N), or equal.

    Exported graphs have no operation for it: there the numbers are laid out in a square, whose rows
    are counted by their last, and then the numbers of one row. That is few operations at any n.
    The largest number fills the square up: it is counted with all the others, or not at all.
    """
    if not torch.compiler.is_exporting():
        return torch.searchsorted(ordered, scores.contiguous(), right=equal)
    n, below = ordered.shape[-1], torch.le if equal else torch.lt
    side = math.isqrt(n - 1) + 1
    largest = ordered[..., -1:].expand(*ordered.shape[:-1], side * side - n)
    square = torch.cat([ordered, largest], -1).unflatten(-1, (side, side))
    wanted = scores.unsqueeze(-1)
    whole = below(square[..., -1].unsqueeze(-2), wanted).sum(-1, keepdim=True).clamp_max(side - 1)
    row = square.gather(-2, whole.expand(*whole.shape[:-1], side))
    count = side * whole.squeeze(-1) + below(row, wanted).sum(-1)
    return count.clamp_max(n)


class Steps(NamedTuple):
    """Functions of a score that change at calibration scores alone, all looked up at once.

    Attributes:
        edges: (..., n) where they change, sorted.
        values: (..., n + 1) what they are where so many edges are below the score.
    """

    edges: Tensor
    values: Tensor

    @classmethod
    def p_value_and_percentile(cls, ordered: Tensor) -> Steps:
        """`p_values_among` and `percentiles_among` of (n,) sorted scores, in two rows."""
        n = len(ordered)
        below = torch.arange(n + 1, dtype=torch.float64, device=ordered.device)
        # At or below a score is what, moved down to the next number, is below it.
        lower = torch.nextafter(ordered, ordered.new_tensor(-torch.inf))
        values = torch.stack([(1 + n - below) / (n + 1), below / n])
        return cls(torch.stack([ordered, lower]), values)

    def __call__(self, scores: Tensor) -> Tensor:
        """(..., N) values at (..., N) scores."""
        return self.values.gather(-1, number_below(self.edges, scores))


@dataclass(frozen=True)
class CalibrationState:
    """What a calibrator has learned: sorted ID scores, and a threshold for each quantile.

    Attributes:
        scores: (n,) sorted calibration scores, float64.
        thresholds: quantile -> score below which that fraction of the calibration scores lies.
        aggregation: how the scores were made from the layers (a name, for the record).
    """

    scores: Tensor
    thresholds: dict[float, float]
    aggregation: str

    @property
    def num_samples(self) -> int:
        """n, the number of calibration scores."""
        return len(self.scores)

    @property
    def smallest_alpha(self) -> float:
        """1 / (n + 1), the smallest p-value: at an alpha below it nothing is flagged."""
        return 1 / (len(self.scores) + 1)


class EmpiricalPercentileCalibrator:
    """Empirical percentiles, thresholds and conformal p-values from ID calibration scores.

    Args:
        threshold_quantiles: quantiles in (0, 1) whose thresholds are kept; the first is the
            default of `threshold_for` and `is_ood`.

    Raises:
        InputError: a quantile outside (0, 1), or none.
    """

    def __init__(self, threshold_quantiles: Sequence[float] = (0.95,)) -> None:
        if not threshold_quantiles or not all(0 < q < 1 for q in threshold_quantiles):
            raise InputError(
                f"threshold_quantiles: found {tuple(threshold_quantiles)}, "
                "allowed: one or more numbers between 0 and 1"
            )
        self.threshold_quantiles = tuple(float(q) for q in threshold_quantiles)
        self.state: CalibrationState | None = None

    def fit(self, scores: Tensor, *, aggregation: str = "mean") -> CalibrationState:
        """Learn from (n,) ID scores; those that are NaN or infinite are left out with a warning.

        Raises:
            InputError: no tensor, or fewer than two finite scores.
        """
        check_tensor("calibration scores", scores)
        scores = scores.detach().double().cpu()
        if scores.ndim != 1:
            raise InputError(
                f"calibration scores: found shape {tuple(scores.shape)}, allowed: (n,)"
            )
        finite = scores.isfinite()
        if not finite.all():
            warnings.warn(
                f"calibration scores: {int((~finite).sum())} of {len(scores)} are NaN or infinite, "
                "and left out",
                stacklevel=2,
            )
            scores = scores[finite]
        if len(scores) < 2:
            raise InputError(f"calibration scores: found {len(scores)}, allowed: at least 2")
        quantiles = torch.tensor(
            self.threshold_quantiles, dtype=torch.float64, device=scores.device
        )
        # `higher` takes a score that was seen, so that at least a fraction q lies at or below it.
        values = torch.quantile(scores, quantiles, interpolation="higher")
        thresholds = dict(zip(self.threshold_quantiles, values.tolist(), strict=True))
        self.state = CalibrationState(scores.sort().values, thresholds, aggregation)
        return self.state

    def percentiles(self, scores: Tensor) -> Tensor:
        """Fraction (0 to 1) of calibration scores at or below each score; 1 for NaN."""
        return percentiles_among(self._fitted().scores, scores.cpu())

    def p_values(self, scores: Tensor) -> Tensor:
        """Conformal p-value of each score, in its shape; the smallest for NaN."""
        return p_values_among(self._fitted().scores, scores.cpu())

    def threshold_for(self, quantile: float | None = None) -> float:
        """The score below which a quantile of the calibration scores lies.

        Raises:
            InputError: a quantile that was not asked for at construction.
        """
        thresholds = self._fitted().thresholds
        wanted = self.threshold_quantiles[0] if quantile is None else float(quantile)
        if wanted not in thresholds:
            raise InputError(
                f"quantile: found {wanted}, allowed: {', '.join(map(str, thresholds))} "
                "(threshold_quantiles of the calibrator)"
            )
        return thresholds[wanted]

    def is_ood(self, scores: Tensor, quantile: float | None = None) -> Tensor:
        """Whether each score lies above the threshold of a quantile, or is NaN, bool."""
        return _surprising(scores.cpu()) > self.threshold_for(quantile)

    def state_dict(self) -> dict[str, Any]:
        """Everything that was learned, as tensors and plain values."""
        state = self._fitted()
        return {
            "scores": state.scores,
            "threshold_quantiles": list(self.threshold_quantiles),
            "aggregation": state.aggregation,
        }

    def load_state_dict(self, state: dict[str, Any]) -> CalibrationState:
        """Take over what another calibrator has learned."""
        self.threshold_quantiles = tuple(float(q) for q in state["threshold_quantiles"])
        return self.fit(state["scores"], aggregation=state["aggregation"])

    def save(self, path: str | Path) -> None:
        """Write the state to a safetensors file."""
        from safetensors.torch import save_file

        state = self.state_dict()
        metadata = {
            "threshold_quantiles": ",".join(map(repr, state["threshold_quantiles"])),
            "aggregation": state["aggregation"],
        }
        with replacing(Path(path)) as temporary:
            save_file({"scores": state["scores"].contiguous()}, temporary, metadata=metadata)

    @classmethod
    def load(cls, path: str | Path) -> EmpiricalPercentileCalibrator:
        """Read a state that `save` wrote.

        Raises:
            ArtifactError: the file is missing, damaged or of another kind.
        """
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata()
                scores = file.get_tensor("scores")
            quantiles = [float(q) for q in metadata["threshold_quantiles"].split(",")]
            calibrator = cls(quantiles)
            calibrator.fit(scores, aggregation=metadata["aggregation"])
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"{path}: not a readable calibration file ({error})") from error
        return calibrator

    def _fitted(self) -> CalibrationState:
        if self.state is None:
            raise NotReadyError("the calibrator has seen no scores; call fit(scores) first")
        return self.state


def _surprising(scores: Tensor) -> Tensor:
    """Scores as contiguous float64, without NaN: it would pass for an unsurprising score."""
    return scores.detach().double().nan_to_num(torch.inf, torch.inf, -torch.inf).contiguous()
