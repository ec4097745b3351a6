"""Metrics of separation. OOD is the positive class; a higher score means more OOD."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nervecode.errors import InputError


@dataclass(frozen=True)
class Separation:
    """How well scores tell OOD from ID.

    Attributes:
        auroc: area under the ROC curve.
        aupr_in: average precision with ID as the positive class (scores negated).
        aupr_out: average precision with OOD as the positive class.
        fpr95: fraction of ID flagged at the threshold that catches 95 % of OOD (OpenOOD 1.5).
        id_tpr95_ood_accepted: fraction of OOD accepted when 95 % of ID is accepted.
    """

    auroc: float
    aupr_in: float
    aupr_out: float
    fpr95: float
    id_tpr95_ood_accepted: float


def separation(id_scores: np.ndarray, ood_scores: np.ndarray) -> Separation:
    """All metrics of (n,) ID scores against (m,) OOD scores.

    Raises:
        InputError: an empty array, or NaN or infinity.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    for name, scores in (("ID", id_scores), ("OOD", ood_scores)):
        if not len(scores) or not np.isfinite(scores).all():
            raise InputError(f"{name} scores: found {len(scores)}, allowed: finite, at least one")
    is_ood = np.r_[np.zeros(len(id_scores)), np.ones(len(ood_scores))]
    scores = np.r_[id_scores, ood_scores].astype(np.float64)
    id_flagged, ood_caught, _ = roc_curve(is_ood, scores, drop_intermediate=False)
    return Separation(
        auroc=float(roc_auc_score(is_ood, scores)),
        aupr_in=float(average_precision_score(1 - is_ood, -scores)),
        aupr_out=float(average_precision_score(is_ood, scores)),
        fpr95=float(id_flagged[ood_caught >= 0.95].min()),
        id_tpr95_ood_accepted=float(1 - ood_caught[id_flagged <= 0.05 + 1e-12].max()),
    )


def calibration_error(confidences: np.ndarray, correct: np.ndarray, *, bins: int = 15) -> float:
    """Expected calibration error: how far accuracy is from confidence, in bins of equal width.

    Guo et al. 2017, https://arxiv.org/abs/1706.04599.

    Args:
        confidences: (n,) probabilities of the predicted classes.
        correct: (n,) whether the prediction is right.
        bins: of the interval from 0 to 1, each with its right end.
    """
    place = np.clip(np.ceil(confidences * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, correct - confidences.astype(np.float64), minlength=bins)
    return float(np.abs(gaps).sum() / len(confidences))
