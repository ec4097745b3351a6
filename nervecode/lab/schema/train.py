"""The section `train`: how the classifier is trained."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from nervecode.lab.schema.section import Section
from nervecode.lab.schema.values import NotNegative, Option, Positive, Selectors

NO_LOSS = "none"  # in bits


def _freeze(value: Any) -> Any:
    whole = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if value != "backbone" and not whole:
        raise ValueError(f"found {value!r}, allowed: a number of epochs, or backbone")
    return value


Freeze = Annotated[int | Literal["backbone"], BeforeValidator(_freeze)]


class TrainConfig(Section):
    """How the classifier is trained."""

    LATER = frozenset({"freeze", "loss", "loss_options", "coding_loss", "coding_layers"})

    epochs: Annotated[int, Field(strict=True, ge=1, le=100_000)] = 10
    batch_size: Annotated[int, Field(strict=True, ge=1, le=1 << 20)] = 128
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.1
    momentum: Annotated[float, Field(strict=True, ge=0, lt=1)] = 0.9
    weight_decay: NotNegative = 5e-4
    schedule: Literal["cosine", "constant"] = "cosine"
    augment: Literal["none", "crop", "crop_flip"] = "none"
    # The task's loss by name, and its hyperparameters, where they are not to be the authors'.
    loss: str = "cross_entropy"
    loss_options: dict[str, Option] = Field(default={})
    # A loss in bits of the vectors of some layers, by name; `features` are the input of the head.
    coding_loss: str = NO_LOSS
    coding_layers: Selectors = "features"
    # Of that loss, and of the surprise of learned codes.
    coding_weight: NotNegative = 0.1
    # `auto`: bfloat16 autocast where the device multiplies it natively, else float32.
    precision: Literal["float32", "bfloat16", "auto"] = "float32"
    compile: bool = False
    # So many epochs train the head alone, on a network that stays as it is; `backbone`: all do.
    freeze: Freeze = 0
