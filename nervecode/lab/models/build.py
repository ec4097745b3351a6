"""Building an untrained model that a config names."""

from __future__ import annotations

import torch

from nervecode.errors import InputError
from nervecode.lab.data.samples import Samples, Shape
from nervecode.lab.models.borrowed import borrow
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.models.own import own
from nervecode.lab.models.registry import MODELS
from nervecode.lab.models.user_code import is_user_code, load
from nervecode.lab.schema import ModelConfig

MAX_PARAMETERS = 1_000_000_000  # 4 GB, and as much again for gradients and for momentum


def build_model(config: ModelConfig, train: Samples, num_classes: int) -> Classifier:
    """An untrained model, normalising by the training split where its config does not say how.

    Raises:
        InputError: as `empty_model`.
    """
    model = empty_model(config, tuple(train.inputs.shape[1:]), num_classes)
    if not model.is_normalisation_given:
        model.set_normalisation(train)
    return model


def empty_model(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """An untrained model of the registry, whose normalisation is the config's, or not known yet.

    Raises:
        InputError: a config that the model does not take, or more than `MAX_PARAMETERS`.
    """
    elsewhere = ":" in config.name or config.name in MODELS.offered
    if config.head is not None and not elsewhere:
        raise InputError(
            f"model.head: found {config.head!r}, allowed for networks from elsewhere: "
            f"{config.name!r} has a head of its own"
        )
    if is_user_code(config.name):
        model = own(load(config.name), config, shape, num_classes)
    elif ":" in config.name:
        model = borrow(config, shape, num_classes)
    else:
        if not elsewhere:
            _check_size(config, shape, num_classes)
        model = MODELS[config.name](config, shape, num_classes)
    if config.mean is None or config.std is None:
        model.fix_normalisation([0.0] * shape[0], [1.0] * shape[0], shape)
    else:
        model.fix_normalisation(config.mean, config.std, shape)
        model.is_normalisation_given = True
    return model


def _check_size(config: ModelConfig, shape: Shape, num_classes: int) -> None:
    """Refuse a model that would fill the memory, before it does: counted without any numbers."""
    with torch.device("meta"):
        empty = MODELS[config.name](config, shape, num_classes)
    count = sum(parameter.numel() for parameter in empty.parameters())
    if count > MAX_PARAMETERS:
        depth = "" if config.depth is None else f" and model.depth {config.depth}"
        raise InputError(
            f"model.width: found {config.width}{depth}, which makes {count:,} parameters; "
            f"allowed: {MAX_PARAMETERS:,}"
        )
