"""Temperature schedules for codebooks that are learned by gradient."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nervecode.errors import InputError


@dataclass(frozen=True)
class FixedTemperature:
    """The same temperature at every step."""

    value: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a temperature that is not positive."""
        _positive("value", self.value)

    def __call__(self, step: int) -> float:
        """The temperature at a step."""
        return self.value


@dataclass(frozen=True)
class CosineTemperature:
    """From `start` to `end` along half a cosine over `steps` steps, then constant."""

    start: float
    end: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse temperatures that are not positive and schedules without steps."""
        _positive("start", self.start)
        _positive("end", self.end)
        _positive("steps", self.steps)

    def __call__(self, step: int) -> float:
        """The temperature at a step."""
        done = min(max(step, 0), self.steps) / self.steps
        return self.end + (self.start - self.end) * (1 + math.cos(math.pi * done)) / 2


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise InputError(f"temperature {name}: found {value}, allowed: a number above 0")
