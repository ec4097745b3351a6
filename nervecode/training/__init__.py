"""Learning codes together with a task."""

from nervecode.training.diagnostics import DiagnosticsCollector
from nervecode.training.ema import EmaCodebookUpdater
from nervecode.training.loggers import CsvDiagnosticsLogger, JsonlDiagnosticsLogger
from nervecode.training.loss import CodingLoss

__all__ = [
    "CodingLoss",
    "CsvDiagnosticsLogger",
    "DiagnosticsCollector",
    "EmaCodebookUpdater",
    "JsonlDiagnosticsLogger",
]
