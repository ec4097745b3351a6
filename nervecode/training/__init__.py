"""Learning codes together with a task."""

from nervecode.training.bits import BatchPrice, CodePrice, CodeRate, MixturePrice, VectorLoss
from nervecode.training.diagnostics import DiagnosticsCollector
from nervecode.training.ema import EmaCodebookUpdater
from nervecode.training.loggers import CsvDiagnosticsLogger, JsonlDiagnosticsLogger
from nervecode.training.loss import CodingLoss

__all__ = [
    "BatchPrice",
    "CodePrice",
    "CodeRate",
    "CodingLoss",
    "CsvDiagnosticsLogger",
    "DiagnosticsCollector",
    "EmaCodebookUpdater",
    "JsonlDiagnosticsLogger",
    "MixturePrice",
    "VectorLoss",
]
