"""Traces become one number, and the number a decision."""

from nervecode.scoring.aggregate import (
    AggregatedSurprise,
    max_surprise,
    mean_surprise,
    stack_layers,
    total_surprise,
    weighted_surprise,
)
from nervecode.scoring.calibrate import (
    CalibrationState,
    EmpiricalPercentileCalibrator,
    conformal_p_values,
)
from nervecode.scoring.combine import id_zscore_equal, zscore

__all__ = [
    "AggregatedSurprise",
    "CalibrationState",
    "EmpiricalPercentileCalibrator",
    "conformal_p_values",
    "id_zscore_equal",
    "max_surprise",
    "mean_surprise",
    "stack_layers",
    "total_surprise",
    "weighted_surprise",
    "zscore",
]
