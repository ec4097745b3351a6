"""The section `bench`: what is compared, and under which rules."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, field_validator

from nervecode.lab.schema.section import Section
from nervecode.lab.schema.values import Count, Option


class BenchConfig(Section):
    """What is compared, and under which rules."""

    detectors: tuple[str, ...] = ()
    # Detector -> its hyperparameters, where they are not to be the authors'.
    options: dict[str, dict[str, Option]] = Field(default={})
    accuracy_gate: Annotated[float, Field(strict=True, ge=0, le=1)] = 0.0
    limit_eval: Count | None = None
    keep_features: bool = False

    @field_validator("detectors")
    @classmethod
    def _each_once(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) < len(names):
            raise ValueError("a detector is given twice")
        return names
