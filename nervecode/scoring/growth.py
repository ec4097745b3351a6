"""Growth: a calibration on more inputs, and what that changes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.scoring.calibrated_calls import CalibratedCalls
from nervecode.scoring.layer_calibration import LayerCalibration, alike
from nervecode.scoring.mondrian import check_weights
from nervecode.scoring.readings import LayerReadings
from nervecode.scoring.remarks import remarks_on_selection, remarks_on_twins

ALPHAS = (0.1, 0.05, 0.01)
SAME = 1e-3  # bits by which the readings of one input differ, computed in another batch
LOOKED_AT = 2048  # inputs that are looked for among those of a calibration


class Change(NamedTuple):
    """What more calibration inputs change at one alpha.

    Fractions are by weight where inputs have weights, and near alpha for inputs that are alike.
    Thresholds would compare two scales: scores are standardised anew on all inputs, unless the
    calibration is exact.

    Attributes:
        alpha: what p-values are flagged up to.
        added_before: the fraction of the inputs added that the calibration of before flags.
        added: the fraction of them that the new one flags.
        known: the fraction of the calibration inputs of before that the new one flags.
    """

    alpha: float
    added_before: float
    added: float
    known: float


def with_more(
    calibration: LayerCalibration,
    layers: Mapping[str, Tensor],
    predicted: Tensor | None = None,
    weights: Tensor | None = None,
    *,
    calls: CalibratedCalls | None = None,
) -> LayerCalibration:
    """A calibration on its own and on further held-out ID inputs, by the same method.

    Args:
        calibration: stays as it is.
        layers: layer -> `readings` of the further inputs.
        predicted: (m,) predicted classes; see `LayerCalibration.needs_predictions`.
        weights: (m,) importance weights, if the calibration has them.
        calls: what the calls that read these inputs had in common; None: the same as before.

    Raises:
        InputError: other layers, weights for some of the inputs alone, or calls of another kind.
    """
    own = calibration.layers
    for name in dict.fromkeys([*own, *layers]):
        if name not in layers or name not in own:
            there = "the further inputs" if name in layers else "the calibration"
            raise InputError(f"calibrate add: layer {name!r} is of {there} alone")
    if (weights is None) != (calibration.weights is None):
        there = "the calibration" if weights is None else "the further inputs"
        raise InputError(f"calibrate add: weights of {there} alone, allowed: of both or none")
    if calibration.predicted is not None:
        further = LayerReadings.read(layers).predicted(predicted).cpu()
        predicted = torch.cat([calibration.predicted, further])
    if weights is not None and calibration.weights is not None:
        number = len(next(iter(layers.values())))
        weights = torch.cat([calibration.weights, check_weights(weights, number)])
    layers = {name: torch.cat([known, layers[name].cpu()]) for name, known in own.items()}
    together = calibration.calls if calls is None else calibration.calls.with_more(calls)
    return alike(calibration, layers, predicted, weights, calibration.standard, together)


def remarks_on_addition(calibration: LayerCalibration, layers: Mapping[str, Tensor]) -> list[str]:
    """What speaks against adding inputs of these `readings` to a calibration, in words."""
    # Without weights, which say how a stream differs from what is added here.
    p_values = calibration.p_values(calibration.scores_of(layers))
    known, standard = calibration.layers, calibration.standard
    if standard is not None:  # what makes the score must not rank it either
        known = {name: torch.cat([rows, standard[name]]) for name, rows in known.items()}
    return [
        *remarks_on_selection(p_values, calibration.num_samples),
        *remarks_on_twins(share_known(known, layers)),
    ]


def share_known(known: Mapping[str, Tensor], layers: Mapping[str, Tensor]) -> float:
    """The share of inputs with the readings of a known one in every layer, up to rounding.

    Beyond that of known ones that share theirs with another known one, as where readings tie; of
    `LOOKED_AT` inputs of each, evenly spread, among all known ones.
    """
    old, new = (torch.cat([part[name].double().cpu() for name in known], dim=1)
                for part in (known, layers))  # fmt: skip
    old, new = (rows[rows.isfinite().all(1)] for rows in (old, new))  # `cdist` takes NaN for 0
    if not len(new):
        return 0.0
    tied = _neighbours(old[:: 1 + len(old) // LOOKED_AT], old) > 1
    twins = _neighbours(new[:: 1 + len(new) // LOOKED_AT], old) > 0
    return max(0.0, float(twins.double().mean() - tied.double().mean()))


def _neighbours(rows: Tensor, known: Tensor) -> Tensor:
    """(m,) how many of the known rows are within rounding of each row."""
    counts = [
        (torch.cdist(part, known, p=math.inf) <= SAME).sum(1) for part in rows.split(LOOKED_AT // 8)
    ]
    return torch.cat(counts) if counts else torch.zeros(0, device="cpu")


def changes(before: LayerCalibration, after: LayerCalibration) -> list[Change]:
    """What `with_more` has changed, at usual rates of false alarms."""
    number = len(next(iter(before.layers.values())))
    scores = before.scores_of({name: known[number:] for name, known in after.layers.items()})
    weights = torch.ones_like(after.scores) if after.weights is None else after.weights

    def flagged(scores: Tensor, threshold: float, part: slice) -> float:
        return float(weights[part][scores > threshold].sum() / weights[part].sum())

    old, new = slice(number), slice(number, None)
    found = []
    for alpha in ALPHAS:
        threshold = after.threshold(alpha)
        found.append(
            Change(
                alpha,
                flagged(scores, before.threshold(alpha), new),
                flagged(after.scores[new], threshold, new),
                flagged(after.scores[old], threshold, old),
            )
        )
    return found
