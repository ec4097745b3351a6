"""Classifier: normalisation, features and a linear head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nervecode.errors import InputError
from nervecode.lab.data.samples import Samples, Shape, as_float
from nervecode.lab.schema import ModelConfig

INSTEAD = {
    1: "embedding, mlp",
    2: "conv1d, mlp",
    3: "small_cnn, resnet18, vit and other networks for images, mlp",
}  # number of axes of an input -> the models that take it


class Classifier(nn.Module, ABC):
    """(B, *shape) raw inputs -> (B, classes) logits, by a linear head over (B, D) features.

    Inputs are normalised inside, so that a checkpoint is complete without its data set.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_features: int, num_classes: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.is_normalisation_given = False  # by a config, which no file replaces then
        self.head = nn.Linear(num_features, num_classes)

    def set_normalisation(self, samples: Samples) -> None:
        """Standardise inputs by the statistics of ID training data, per channel or feature.

        The deviation is 1 where all are equal.
        """
        dims = [d for d in range(samples.inputs.ndim) if d != 1]
        shape = (-1, *[1] * (samples.inputs.ndim - 2))
        inputs = as_float(samples.inputs)
        low = inputs.amin(dims)
        constant = low == inputs.amax(dims)  # whose mean and deviation may be rounded
        self.mean = inputs.mean(dims).where(~constant, low).view(shape)
        self.std = inputs.std(dims).clamp_min(1e-6).where(~constant, 1.0).view(shape)

    def fix_normalisation(self, mean: Sequence[float], std: Sequence[float], shape: Shape) -> None:
        """Standardise inputs of a shape by given numbers: one for all, or one a channel.

        Raises:
            InputError: another number of them than channels.
        """
        if len(mean) not in (1, shape[0]):
            raise InputError(
                f"model.mean: found {len(mean)} numbers, allowed: 1, or {shape[0]} as the inputs "
                "have channels or features"
            )
        axes = (-1, *[1] * (len(shape) - 1))
        self.mean, self.std = torch.tensor(mean).view(axes), torch.tensor(std).view(axes)

    @abstractmethod
    def features(self, x: Tensor) -> Tensor:
        """(B, *shape) normalised inputs -> (B, D) features, the input of the head."""

    def key_elsewhere(self, key: str) -> str:
        """The name of a weight in checkpoints of this architecture that were made elsewhere."""
        return key

    def forward(self, x: Tensor) -> Tensor:
        """(B, *shape) raw inputs, floats or bytes -> (B, classes) logits."""
        logits: Tensor = self.head(self.features((as_float(x) - self.mean) / self.std))
        return logits


def image_shape(config: ModelConfig, shape: Shape) -> tuple[int, int, int]:
    """(C, H, W) of one input, for a model that takes images only.

    Raises:
        InputError: inputs of another form.
    """
    if len(shape) != 3:
        raise _takes(config, "images (C, H, W)", shape)
    return shape


def series_shape(config: ModelConfig, shape: Shape) -> tuple[int, int]:
    """(C, T) of one input, for a model that takes series only.

    Raises:
        InputError: inputs of another form.
    """
    if len(shape) != 2:
        raise _takes(config, "series (C, T)", shape)
    return shape


def vector_shape(config: ModelConfig, shape: Shape) -> tuple[int]:
    """(D,) of one input, for a model that takes vectors only.

    Raises:
        InputError: inputs of another form.
    """
    if len(shape) != 1:
        raise _takes(config, "vectors (D,)", shape)
    return shape


def _takes(config: ModelConfig, what: str, shape: Shape) -> InputError:
    return InputError(
        f"model.name: {config.name!r} takes {what}, found inputs of shape {shape}; "
        f"allowed for these: {INSTEAD.get(len(shape), 'mlp')}"
    )
