"""Networks of the user's own: made by a function, of a file or of an installed package."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch
from torch import Tensor, nn

from nervecode.errors import InputError, brief
from nervecode.lab.data.samples import Shape
from nervecode.lab.models.adopted import Adopted, trial_run
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import ModelConfig
from nervecode.layers.watched import eager

Factory = Callable[[Shape, int], Any]
"""(shape of one input, number of classes) -> a network."""

_made_before: WeakSet[nn.Module] = WeakSet()  # each has its head taken off, and is trained on


def own(factory: Factory, config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """The network that a function makes, with its last linear layer, or `model.head`, as the head.

    Raises:
        InputError: the function fails or makes something else, or the network does not take these
            inputs in any number, gives other outputs, or has no linear head.
    """
    name = config.name
    net = _made(factory, name, shape, num_classes).eval()
    x = torch.linspace(-1, 1, 2 * int(torch.tensor(shape).prod())).view(2, *shape)
    logits = _logits(net, x, name, num_classes)
    classifier = Adopted.of(net, x.clone(), logits, config.head)
    if classifier is None:
        raise InputError(f"model.name: {_why_not(net, x, logits, config)}")
    try:
        trial_run(classifier, torch.cat([x, x[:1]]))
    except Exception as error:
        raise InputError(
            f"model.name: the network of {name!r} takes 2 inputs at once but not 3, allowed: "
            f"batches of any size: {brief(error)}"
        ) from error
    return classifier.train()


def _made(factory: Factory, name: str, shape: Shape, num_classes: int) -> nn.Module:
    try:
        net = factory(shape, num_classes)
    except (Exception, SystemExit) as error:
        raise InputError(
            f"model.name: {name!r}, called with shape {shape} and {num_classes} classes, fails: "
            f"{brief(error)}"
        ) from error
    if not isinstance(net, nn.Module):
        raise InputError(
            f"model.name: {name!r} returned {type(net).__name__}, allowed: a torch.nn.Module"
        )
    net = _uncompiled(net)
    if net in _made_before:
        raise InputError(
            f"model.name: {name!r} returned the network of its call before, allowed: a new one at "
            "each call, as every seed begins with weights of its own"
        )
    _made_before.add(net)
    return net


def _uncompiled(net: nn.Module) -> nn.Module:
    """A network without `torch.compile`, in whose graphs no layer is seen."""
    for module in list(net.modules()):
        module._compiled_call_impl = None
        for name, child in module.named_children():
            setattr(module, name, eager(child))
    return eager(net)


def _logits(net: nn.Module, x: Tensor, name: str, num_classes: int) -> Tensor:
    try:
        with torch.no_grad():
            logits = net(x.clone())  # it may change them in place
    except (Exception, SystemExit) as error:
        dtype = _other_dtype(net)
        raise InputError(
            f"model.name: the network of {name!r} takes no inputs of shape {tuple(x.shape[1:])}: "
            f"{brief(error)}{f'; {dtype}' if dtype else ''}"
        ) from error
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (2, num_classes):
        shaped = isinstance(logits, Tensor)
        found = f"shape {tuple(logits.shape)}" if shaped else type(logits).__name__
        raise InputError(
            f"model.name: the network of {name!r} gives {found} for two inputs, "
            f"allowed: logits of shape {(2, num_classes)}"
        )
    return logits


def _why_not(net: nn.Module, x: Tensor, logits: Tensor, config: ModelConfig) -> str:
    """Why a network has no head that gives its logits."""
    which = f"the network of {config.name!r}"
    if isinstance(net, torch.jit.ScriptModule):
        return f"{which} is a TorchScript module, allowed: the torch.nn.Module it was made from"
    if isinstance(net, nn.Linear):
        return (
            f"{which} is a linear layer alone, allowed: nn.Sequential(nn.Flatten(), nn.Linear(…))"
        )
    if not any(isinstance(module, nn.Linear) for module in net.modules()):
        return f"{which} has no nn.Linear, allowed: one at the end"
    if not logits.isfinite().all():
        return f"{which} gives NaN or infinity for inputs from -1 to 1"
    if not torch.equal(trial_run(net, x.clone()), logits):
        return (
            f"{which} gives other logits for the same inputs in evaluation mode, as where a "
            "functional dropout is not told training=self.training"
        )
    head = "its last linear layer" if config.head is None else f"{config.head!r}"
    dtype = _other_dtype(net) or (
        "allowed: an nn.Linear at the end, named by model.head where it is not the last one"
    )
    return f"the logits of {config.name!r} are not those of {head}; {dtype}"


def _other_dtype(net: nn.Module) -> str | None:
    """What is to be told of weights that are not in float32, as inputs are."""
    return next(
        (
            f"its {name!r} is of {parameter.dtype}, allowed: torch.float32"
            for name, parameter in net.named_parameters()
            if parameter.dtype is not torch.float32
        ),
        None,
    )
