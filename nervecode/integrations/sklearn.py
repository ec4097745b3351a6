"""SurpriseDetector: a scikit-learn estimator on vectors of any encoder, or of a table."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from nervecode.core.precision import RANK
from nervecode.errors import InputError, need_extra
from nervecode.layers import WrappedModel, wrap
from nervecode.layers.batch.sketch import input_hashes
from nervecode.rates import check_rate
from nervecode.scoring.false_alarms import rank_of
from nervecode.scoring.layer_calibration import LayerCalibration
from nervecode.scoring.readings import readings
from nervecode.scoring.tables import CODE_LENGTH

need_extra("nervecode.integrations.sklearn", "sklearn", "integrations")

from sklearn.base import BaseEstimator, OutlierMixin  # noqa: E402
from sklearn.model_selection import train_test_split  # noqa: E402
from sklearn.utils import check_array, check_random_state, column_or_1d  # noqa: E402
from sklearn.utils.multiclass import type_of_target  # noqa: E402
from sklearn.utils.validation import check_is_fitted, validate_data  # noqa: E402

LAYER = "0"
LEAST = 4  # inputs: two to fit and two to calibrate
DIGITS = 6  # decimals of a reading in bits
FAINT = 1 / 30  # of the largest standard deviation: a column that varies less hardly counts
REPEATED = 0.05  # of the rows that calibrate: so many may have fitted the codes too
LARGEST = 1e15  # a value; squares of larger ones, summed, leave float32


class SurpriseDetector(OutlierMixin, BaseEstimator):  # type: ignore[misc]
    """Codes of vectors, without a network: surprise in bits, in scikit-learn's signs.

    A seeded share of the data is held out to calibrate; the codes are fitted to the rest. With
    class labels every class has codes of its own. Columns of very different scales should come
    through a `StandardScaler` in a pipeline: `fit` warns where they do not, and of rows that repeat
    others.

    Args:
        alpha: share of inputs like the training data that `predict` may call outliers.
        calibration_fraction: share of the inputs that is held out to calibrate.
        length_power: as `nervecode.core.Reducer`; below 1, the mean of few columns looks strange.
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
        length_power: float = 1.0,
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
            InputError: a share outside (0, 1), labels of several kinds or with fractions, or values
                above 1e15.
            ValueError: too few rows, or NaN or infinity among them.
        """
        for name in ("alpha", "calibration_fraction"):
            check_rate(name, getattr(self, name))
        rows = validate_data(self, X, dtype=np.float64, ensure_min_samples=LEAST)
        _check_scales(rows)
        classes = np.zeros(len(rows), int) if y is None else _classes(y)
        held_out = min(max(2, round(self.calibration_fraction * len(rows))), len(rows) - 2)
        fitted, calibration, labels, _ = train_test_split(
            rows, classes, test_size=held_out, random_state=check_random_state(self.random_state)
        )
        _check_repetition(fitted, calibration)
        self.codes_ = self._fitted(fitted, labels)
        self.calibration_ = LayerCalibration(self._readings(calibration), CODE_LENGTH)
        self.n_calibration_ = held_out
        self.offset_ = -self._threshold()
        return self

    def score_samples(self, X: Any) -> np.ndarray:
        """(n,) minus the surprise in bits of (n, D) vectors: lower is more abnormal."""
        return -self._scores(X).numpy()

    def decision_function(self, X: Any) -> np.ndarray:
        """(n,) `score_samples` less `offset_`: negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> np.ndarray:
        """(n,) 1 for an inlier, -1 for an outlier: a p-value of at most `alpha`."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def p_values(self, X: Any) -> np.ndarray:
        """(n,) conformal p-values of (n, D) vectors."""
        p_values: np.ndarray = self.calibration_.p_values(self._scores(X)).numpy()
        return p_values

    def _fitted(self, rows: np.ndarray, labels: np.ndarray) -> WrappedModel:
        """Codes in float64, so that a score does not depend on the others of its batch."""
        wrapped = wrap(nn.Sequential(nn.Identity()), LAYER).eval()
        wrapped.fit(
            [(torch.from_numpy(rows), torch.from_numpy(labels))],
            length_power=self.length_power,
            rank=self.rank,
            codes_per_class=self.codes_per_class,
            label_code=False,
            num_classes=1 + int(labels.max()),
        )
        return wrapped.double()

    def _scores(self, X: Any) -> Tensor:
        check_is_fitted(self, "codes_")
        rows = validate_data(self, X, dtype=np.float64, reset=False)
        return self.calibration_.scores_of(self._readings(rows))

    def _readings(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Readings, without the last digits, which depend on the size of a batch.

        A score counts calibration inputs that read as much or more, so it would show them.
        """
        with torch.no_grad():
            _, traces = self.codes_.forward_with_trace(torch.tensor(rows))
        return {name: readings(name, t).round(decimals=DIGITS) for name, t in traces.items()}

    def _threshold(self) -> float:
        """The calibration score above which p <= alpha."""
        number, least = self.calibration_.num_samples, self.calibration_.smallest_alpha
        if not rank_of(number, self.alpha):
            warnings.warn(
                f"alpha: found {self.alpha:g}, but {number} calibration inputs allow no less "
                f"than {least:.2g}, which is taken; fit to more inputs",
                stacklevel=3,
            )
        return self.calibration_.threshold(max(self.alpha, least))


def _classes(y: Any) -> np.ndarray:
    """(n,) labels of any kind -> (n,) numbers from 0."""
    labels = column_or_1d(check_array(y, ensure_2d=False, dtype=None))
    if labels.dtype.kind == "f" and type_of_target(labels).startswith("continuous"):
        raise InputError(
            f"y: found {labels.dtype} values with fractions, allowed: classes, or none at all"
        )
    try:
        numbers: np.ndarray = np.unique(labels, return_inverse=True)[1]
    except TypeError:
        kinds = ", ".join(sorted({type(label).__name__ for label in labels}))
        raise InputError(f"y: found labels of several kinds ({kinds}), allowed: one") from None
    return numbers


def _check_repetition(fitted: np.ndarray, calibration: np.ndarray) -> None:
    """Warn where many rows that calibrate have fitted the codes too, to which they look usual."""
    hashes = [input_hashes(torch.from_numpy(rows)) for rows in (fitted, calibration)]
    share = float(torch.isin(hashes[1], hashes[0]).double().mean())
    if share > REPEATED:
        warnings.warn(
            f"X: {share:.0%} of the rows that calibrate are rows that fitted the codes too; unless "
            "rows to come repeat these as often, as where columns have few values, there are more "
            "false alarms than alpha says: leave out copies of rows",
            stacklevel=3,
        )


def _check_scales(rows: np.ndarray) -> None:
    """Refuse (n, D) values that overflow, and warn where some columns drown a fifth of the others.

    Some pixels of a picture, and some directions of an encoder, hardly vary either: but few.
    """
    largest = np.abs(rows).max()
    if largest > LARGEST:
        raise InputError(f"X: found a value of {largest:.2g}, allowed: up to {LARGEST:g}")
    deviations = rows.std(0)
    faint = (deviations > 0) & (deviations < FAINT * deviations.max())
    if faint.any() and 5 * faint.sum() >= (deviations > 0).sum():
        warnings.warn(
            f"X: {faint.sum()} of {len(faint)} columns vary less than 1/{1 / FAINT:.0f} as much as "
            f"column {deviations.argmax()}, and hardly count; put a StandardScaler before the "
            "detector, in a pipeline",
            stacklevel=3,
        )
