"""Traces become one number, and the number a decision."""

from nervecode.scoring.aggregate import (
    AggregatedSurprise,
    max_surprise,
    mean_surprise,
    stack_layers,
    total_surprise,
    weighted_surprise,
)
from nervecode.scoring.combine import id_zscore_equal, zscore
from nervecode.scoring.p_values import combine_p_values
from nervecode.scoring.percentiles import (
    CalibrationState,
    EmpiricalPercentileCalibrator,
    conformal_p_values,
)

__all__ = [
    "AggregatedSurprise",
    "CalibrationState",
    "EmpiricalPercentileCalibrator",
    "combine_p_values",
    "conformal_p_values",
    "id_zscore_equal",
    "max_surprise",
    "mean_surprise",
    "stack_layers",
    "total_surprise",
    "weighted_surprise",
    "zscore",
]
