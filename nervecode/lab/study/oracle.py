"""Oracles: combinations fitted to OOD test data. An upper bound for an appendix, never a method."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nervecode.lab.detectors.combination import COMBINED, subsets
from nervecode.lab.results.rows import Row

ORACLE = "oracle_ood_calibrated_combo_"
STATUS = "oracle"  # of their rows, which no average over methods takes


def oracle_auroc(inside: np.ndarray, outside: np.ndarray) -> float:
    """AUROC of a logistic regression over (n, k) ID and (m, k) OOD scores, cross-fitted.

    Each half of the data is scored by the regression that the other half was given.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = np.concatenate([inside, outside])
    y = np.r_[np.zeros(len(inside)), np.ones(len(outside))]
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    halves = StratifiedKFold(2, shuffle=True, random_state=0)
    decisions = cross_val_predict(model, x, y, cv=halves, method="decision_function")
    return float(roc_auc_score(y, decisions))


def oracle_rows(
    inside: Mapping[str, np.ndarray],
    outside: Mapping[str, Mapping[str, np.ndarray]],
    groups: Mapping[str, str],
    seed: int,
) -> list[Row]:
    """A row for each subset of the combination's members and each near or far set.

    Args:
        inside: method -> scores of ID test.
        outside: OOD set -> method -> scores.
        groups: OOD set -> its group.
        seed: of the row.
    """
    rows = []
    for letters in subsets(inside):
        names = [COMBINED[letter] for letter in letters]
        for ood, group in groups.items():
            if group != "shift":
                parts = (np.stack([part[n] for n in names], 1) for part in (inside, outside[ood]))
                row: Row = {"seed": seed, "ood": ood, "group": group}
                row |= {"method": ORACLE + "+".join(letters), "status": STATUS, "reason": ""}
                rows.append(row | {"auroc": oracle_auroc(*parts)})
    return rows
