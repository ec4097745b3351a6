"""Learning codes together with a task."""

from nervecode.training.diagnostics import DiagnosticsCollector
from nervecode.training.loss import CodingLoss

__all__ = ["CodingLoss", "DiagnosticsCollector"]
