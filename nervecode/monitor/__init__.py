"""Evidence over a stream of scored inputs: NumPy, errors and files alone."""

from __future__ import annotations

from nervecode.monitor.alarm import Alarm
from nervecode.monitor.classes import ClassRanks
from nervecode.monitor.layers import LayerRanks
from nervecode.monitor.monitor import Monitor

__all__ = ["Alarm", "ClassRanks", "LayerRanks", "Monitor"]
