"""Networks of the user's own: made by a function, of a file or of an installed package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.errors import InputError
from nervecode.lab.data.samples import Shape
from nervecode.lab.models.adopted import Adopted
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import ModelConfig

Factory = Callable[[Shape, int], Any]
"""(shape of one input, number of classes) -> a network."""


def own(factory: Factory, config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """The network that a function makes, with its last linear layer, or `model.head`, as the head.

    Raises:
        InputError: the function fails or makes something else, or the network does not take these
            inputs, gives other outputs, or has no linear head.
    """
    name = config.name
    try:
        net = factory(shape, num_classes)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"model.name: {name!r}, called with shape {shape} and {num_classes} classes, fails: "
            f"{_said(error)}"
        ) from error
    if not isinstance(net, nn.Module):
        raise InputError(
            f"model.name: {name!r} returned {type(net).__name__}, allowed: a torch.nn.Module"
        )
    x = torch.linspace(-1, 1, 2 * int(torch.tensor(shape).prod())).view(2, *shape)
    logits = _logits(net.eval(), x, name, num_classes)
    classifier = Adopted.of(net, x, logits, config.head)
    if classifier is None:
        head = "its last linear layer" if config.head is None else f"{config.head!r}"
        raise InputError(
            f"model.name: the logits of {name!r} are not those of {head}; allowed: an nn.Linear "
            "at the end, named by model.head where it is not the last one"
        )
    return classifier.train()


def _logits(net: nn.Module, x: Tensor, name: str, num_classes: int) -> Tensor:
    try:
        with torch.no_grad():
            logits = net(x)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"model.name: the network of {name!r} takes no inputs of shape {tuple(x.shape[1:])}: "
            f"{_said(error)}"
        ) from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (2, num_classes):
        shaped = isinstance(logits, Tensor)
        found = f"shape {tuple(logits.shape)}" if shaped else type(logits).__name__
        raise InputError(
            f"model.name: the network of {name!r} gives {found} for two inputs, "
            f"allowed: logits of shape {(2, num_classes)}"
        )
    return logits


def _said(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0]
