"""Oracles: combinations fitted to OOD test data. An upper bound for an appendix, never a method."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nervecode.lab.detectors.combination import COMBINED, subsets
from nervecode.lab.schema import PRIMARY

if TYPE_CHECKING:
    from nervecode.lab.study.setting import Setting

ORACLE = "oracle_ood_calibrated_combo_"


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


def oracle_scores(setting: Setting) -> dict[str, float]:
    """Oracle -> mean over seeds of the mean of near and far AUROC."""
    groups = {row["ood"]: row["group"] for row in setting.rows if row["group"] != "shift"}
    table: dict[str, list[float]] = {}
    for seed in setting.scores[PRIMARY]:
        inside = setting.scored(seed, "id_test")
        for letters in subsets(inside):
            names = [COMBINED[letter] for letter in letters]
            by_group: dict[str, list[float]] = {}
            for ood, group in groups.items():
                outside = setting.scored(seed, f"ood_{ood}")
                columns = [np.stack([part[n] for n in names], 1) for part in (inside, outside)]
                by_group.setdefault(group, []).append(oracle_auroc(*columns))
            score = float(np.mean([np.mean(values) for values in by_group.values()]))
            table.setdefault(ORACLE + "+".join(letters), []).append(score)
    return {name: float(np.mean(values)) for name, values in table.items()}
