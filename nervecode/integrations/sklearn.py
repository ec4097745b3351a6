"""SurpriseDetector: a scikit-learn estimator on vectors of any encoder, or of a table."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import nn

from nervecode.core.precision import RANK
from nervecode.core.reduce import LENGTH_POWER
from nervecode.errors import InputError, need_extra
from nervecode.layers import WrappedModel, wrap

need_extra("nervecode.integrations.sklearn", "sklearn", "integrations")

from sklearn.base import BaseEstimator, OutlierMixin  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.utils import check_random_state  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

LAYER = "0"
LEAST = 4  # inputs: two to fit and two to calibrate


class SurpriseDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Codes of vectors, without a network: surprise in bits, in scikit-learn's signs.

    A seeded share of the data is held out to calibrate; the codes are fitted to the rest. With
    class labels every class has codes of its own. Features of very different scales should come
    through a `StandardScaler` in a pipeline.

    Args:
        alpha: share of inputs like the training data that `predict` may call outliers.
        calibration_fraction: share of the inputs that is held out to calibrate.
        length_power: as `nervecode.core.Reducer`.
        rank: directions with a variance of their own.
        codes_per_class: centres per class, at most.
        random_state: seed of the split, as scikit-learn has it.

    Attributes:
        offset_: `predict` gives -1 where `score_samples` is below it.
        n_calibration_: inputs behind a p-value; the smallest p-value is 1 / (n_calibration_ + 1).
        n_features_in_: D.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        calibration_fraction: float = 0.25,
        length_power: float = LENGTH_POWER,
        rank: int = RANK,
        codes_per_class: int = 8,
        random_state: Any = None,
    ) -> None:
        self.alpha = alpha
        self.calibration_fraction = calibration_fraction
        self.length_power = length_power
        self.rank = rank
        self.codes_per_class = codes_per_class
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> SurpriseDetector:
        """Fit to (n, D) vectors of inliers, and (n,) class labels where there are any.

        Raises:
            InputError: a share outside (0, 1).
            ValueError: too few rows, or NaN or infinity among them.
        """
        for name in ("alpha", "calibration_fraction"):
            if not 0 < getattr(self, name) < 1:
                raise InputError(f"{name}: found {getattr(self, name)}, allowed: between 0 and 1")
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=LEAST)
        classes = np.zeros(len(rows), int) if y is None else np.unique(y, return_inverse=True)[1]
        held_out = min(max(2, round(self.calibration_fraction * len(rows))), len(rows) - 2)
        fitted, calibration, labels, _ = train_test_split(
            rows, classes, test_size=held_out, random_state=check_random_state(self.random_state)
        )
        self.codes_ = self._fitted(fitted, labels).calibrate([torch.from_numpy(calibration)])
        self.n_calibration_ = held_out
        self.offset_ = -self._threshold(-self.score_samples(calibration))
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """(n,) minus the surprise in bits of (n, D) vectors: lower is more abnormal."""
        score: np.ndarray = -self._surprise(X).score.numpy()
        return score

    def decision_function(self, X: Any) -> np.ndarray:
        """(n,) `score_samples` less `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """(n,) 1 for an inlier, -1 for an outlier: a p-value of at most `alpha`."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:
        """(n,) conformal p-values of (n, D) vectors."""
        values: np.ndarray = self._surprise(X).p_value.numpy()
        return values

    def _fitted(self, rows: np.ndarray, labels: np.ndarray) -> WrappedModel:
        """Codes in float64, so that a score does not depend on the others of its batch."""
        wrapped = wrap(nn.Sequential(nn.Identity()), LAYER).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # n and alpha are this class's to tell of
            wrapped.fit(
                [(torch.from_numpy(rows), torch.from_numpy(labels))],
                length_power=self.length_power,
                rank=self.rank,
                codes_per_class=self.codes_per_class,
                label_code=False,
                num_classes=1 + int(labels.max()),
            )
        return wrapped.double()

    def _surprise(self, X: Any) -> Any:
        check_is_fitted(self, "codes_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        with torch.no_grad():
            return self.codes_.score(torch.from_numpy(rows))[1]

    def _threshold(self, scores: np.ndarray) -> float:
        """The calibration score above which p <= alpha: all but k - 1 of n + 1 lie at or below."""
        k = int(self.alpha * (len(scores) + 1))
        if k < 1:
            least = 1 / (len(scores) + 1)
            warnings.warn(
                f"alpha: found {self.alpha:g}, but {len(scores)} calibration inputs allow no less "
                f"than {least:.2g}, which is taken; fit to more inputs",
                stacklevel=3,
            )
        threshold: float = np.sort(scores)[-max(k, 1)]
        return threshold
