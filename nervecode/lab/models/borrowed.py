"""Other people's architectures, untrained: `torchvision:NAME`, and with the extra, `timm:NAME`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.errors import InputError, need_extra
from nervecode.lab.data.samples import Shape
from nervecode.lab.models.adopted import Adopted
from nervecode.lab.models.classifier import Classifier, image_shape
from nervecode.lab.registry import Registry
from nervecode.lab.schema import ModelConfig

COLOURS = 3


class Borrowed(Adopted):
    """A network of another library. Grey images are repeated to three channels."""

    def features(self, x: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) -> (B, D)."""
        out: Tensor = self.net(x.expand(-1, COLOURS, -1, -1))
        return out


def _from_torchvision(name: str, shape: Shape, num_classes: int) -> nn.Module:
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    if name == "maxvit_t":
        options["input_size"] = shape[1:]
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    from torchvision.models import get_model

    net: nn.Module = get_model(name, weights=None, num_classes=num_classes, **options)
    return net


def torchvision_names() -> list[str]:
    """The models of torchvision that classify images."""
    from torchvision import models

    return list(models.list_models(module=models))


def timm_names() -> list[str]:
    """The models of timm.

    Raises:
        MissingExtraError: it is not installed.
    """
    return list(_timm().list_models())


def _timm() -> Any:
    need_extra("model.name: 'timm:'", "timm", "timm")
    import timm

    return timm


def _from_timm(name: str, shape: Shape, num_classes: int) -> nn.Module:
    options: dict[str, Any] = {"pretrained": False, "num_classes": num_classes}
    try:  # a Transformer has as many positions as its images have patches
        net: nn.Module = _timm().create_model(name, img_size=shape[1:], **options)
    except TypeError:
        net = _timm().create_model(name, **options)
    return net


BUILDERS: Registry[Callable[[str, Shape, int], nn.Module]] = Registry(
    "library of models", {"torchvision": _from_torchvision, "timm": _from_timm}
)


def borrow(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """The model that `LIBRARY:NAME` names; width and depth are its own.

    Raises:
        InputError: it takes no images of this shape, or its head is not linear.
    """
    library, _, name = config.name.partition(":")
    channels, height, width = image_shape(config, shape)
    if channels not in (1, COLOURS):
        raise InputError(f"model.name: {config.name!r} takes 1 or 3 channels, found {channels}")
    build = BUILDERS[library]
    x = torch.linspace(-1, 1, 2 * COLOURS * height * width).view(2, COLOURS, height, width)
    try:
        net = build(name, shape, num_classes).eval()
        with torch.no_grad():
            logits = net(x)
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"model.name: {config.name!r} takes no images of {height} x {width} ({error})"
        ) from None
    classifier = Borrowed.of(net, x, logits, config.head)
    if classifier is None:
        raise InputError(f"model.name: {config.name!r} does not end in a linear layer")
    return classifier.train()
