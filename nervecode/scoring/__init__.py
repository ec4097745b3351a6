"""Traces become one number, and the number a decision."""

from nervecode.scoring.combine import id_zscore_equal, zscore
from nervecode.scoring.exact import made_exact
from nervecode.scoring.false_alarms import alpha_within, false_alarm_bound
from nervecode.scoring.fdr import select
from nervecode.scoring.growth import changes, with_more
from nervecode.scoring.over_layers import (
    max_surprise,
    mean_surprise,
    stack_layers,
    total_surprise,
    weighted_surprise,
)
from nervecode.scoring.p_values import combine_p_values
from nervecode.scoring.percentiles import (
    CalibrationState,
    EmpiricalPercentileCalibrator,
    conformal_p_values,
)
from nervecode.scoring.surprise import AggregatedSurprise

__all__ = [
    "AggregatedSurprise",
    "CalibrationState",
    "EmpiricalPercentileCalibrator",
    "alpha_within",
    "changes",
    "combine_p_values",
    "conformal_p_values",
    "false_alarm_bound",
    "id_zscore_equal",
    "made_exact",
    "max_surprise",
    "mean_surprise",
    "select",
    "stack_layers",
    "total_surprise",
    "weighted_surprise",
    "with_more",
    "zscore",
]
