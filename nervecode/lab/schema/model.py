"""The section `model`: the network, and where its training begins."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from nervecode.lab.schema.section import Section
from nervecode.lab.schema.values import Finite, Positive, Size


class ModelConfig(Section):
    """A model of the registry, by name, with its own arguments.

    `torchvision:NAME` and `timm:NAME` are those libraries' models, `python:MODULE:FUNCTION` makes
    one of the user's own; they have neither width nor depth.
    """

    LATER = frozenset({"head", "weights", "mean", "std"})

    name: str
    width: Size = 32
    depth: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    # The linear layer that gives the logits, by its name in a model from elsewhere; None: the last.
    head: str | None = None
    # Where training begins: a file of weights, or package:NAME, which carries one.
    weights: str | None = None
    # What inputs are normalised by, per channel or one for all; None: the statistics of ID train.
    mean: tuple[Finite, ...] | None = None
    std: tuple[Positive, ...] | None = None

    @field_validator("weights")
    @classmethod
    def _absolute_weights(cls, source: str | None) -> str | None:
        if source is None or source.startswith("package:"):
            return source
        return str(Path(source).expanduser().resolve())

    @model_validator(mode="after")
    def _both_or_neither(self) -> ModelConfig:
        if len(self.mean or ()) != len(self.std or ()):
            raise ValueError("mean and std must have as many numbers as each other")
        return self
