"""Other people's architectures, untrained: `torchvision:NAME`, and with the extra, `timm:NAME`."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as torchvision_models

from nervecode.errors import InputError, MissingExtraError
from nervecode.lab.models.classifier import Classifier, Shape, image_shape
from nervecode.lab.schema import ModelConfig

COLOURS = 3


class Borrowed(Classifier):
    """A network of another library, whose last linear layer is the head.

    Grey images are repeated to three channels.
    """

    def __init__(self, net: nn.Module, num_classes: int) -> None:
        name, last = _head_of(net, num_classes)
        super().__init__(last.in_features, num_classes)
        self.head.weight = last.weight
        if last.bias is None:
            nn.init.zeros_(self.head.bias)
        else:
            self.head.bias = last.bias
        net.set_submodule(name, nn.Identity())
        self.net = net

    def features(self, x: Tensor) -> Tensor:
        """(B, 1 or 3, H, W) -> (B, D)."""
        out: Tensor = self.net(x.expand(-1, COLOURS, -1, -1))
        return out


def _head_of(net: nn.Module, num_classes: int) -> tuple[str, nn.Linear]:
    """The last linear layer, by name, where it gives the logits.

    Raises:
        ValueError: the logits come from elsewhere.
    """
    linear = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    if not linear or linear[-1][1].out_features != num_classes:
        raise ValueError("its head is no linear layer")
    return linear[-1]


def _from_torchvision(name: str, shape: Shape, num_classes: int) -> nn.Module:
    options: dict[str, Any] = {}
    if name.startswith("vit_"):
        options["image_size"] = shape[1]
    if name == "maxvit_t":
        options["input_size"] = shape[1:]
    if name in ("googlenet", "inception_v3"):
        options |= {"aux_logits": False, "init_weights": True}
    net: nn.Module = torchvision_models.get_model(
        name, weights=None, num_classes=num_classes, **options
    )
    return net


def _torchvision_names() -> list[str]:
    return list(torchvision_models.list_models(module=torchvision_models))


def _timm() -> Any:
    try:
        import timm
    except ImportError:
        raise MissingExtraError(
            "model.name: 'timm:' needs timm, which is not installed; pip install 'nervecode[timm]'"
        ) from None
    return timm


def _from_timm(name: str, shape: Shape, num_classes: int) -> nn.Module:
    options: dict[str, Any] = {"pretrained": False, "num_classes": num_classes}
    try:  # a Transformer has as many positions as its images have patches
        net: nn.Module = _timm().create_model(name, img_size=shape[1:], **options)
    except TypeError:
        net = _timm().create_model(name, **options)
    return net


LIBRARIES: dict[str, tuple[Callable[[], list[str]], Callable[[str, Shape, int], nn.Module]]] = {
    "torchvision": (_torchvision_names, _from_torchvision),
    "timm": (lambda: list(_timm().list_models()), _from_timm),
}
"""Library -> (names of its models, (name, shape of one image, classes) -> a network)."""


def check_borrowed(spec: str) -> None:
    """Refuse a `LIBRARY:NAME` that the library does not have.

    Raises:
        ValueError: no such model; near names are shown.
        MissingExtraError: the library is not installed.
    """
    library, _, name = spec.partition(":")
    names = LIBRARIES[library][0]()
    if name not in names:
        near = get_close_matches(name, names, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(map(repr, near))}? " if near else ""
        raise ValueError(
            f"unknown {library} model {name!r}; {hint}`{library}.list_models()` lists them"
            .replace("`torchvision.list", "`torchvision.models.list")
        )


def borrow(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """The model that `LIBRARY:NAME` names; width and depth are its own.

    Raises:
        InputError: it takes no images of this shape, or has no linear head.
    """
    library, _, name = config.name.partition(":")
    channels, height, width = image_shape(config, shape)
    if channels not in (1, COLOURS):
        raise InputError(f"model.name: {config.name!r} takes 1 or 3 channels, found {channels}")
    try:
        model = Borrowed(LIBRARIES[library][1](name, shape, num_classes), num_classes).eval()
        with torch.no_grad():
            model.head(model.features(torch.zeros(2, *shape)))
    except (RuntimeError, ValueError, AssertionError) as error:
        raise InputError(
            f"model.name: {config.name!r} takes no images of {height} x {width} ({error})"
        ) from None
    return model.train()
