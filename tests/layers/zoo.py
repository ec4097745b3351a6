"""Small models of many kinds, for the promise that a wrapped model equals the bare one."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torchvision
from torch import Tensor, nn

from nervecode.layers.select import Selector


class Case(NamedTuple):
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    layers: Selector = "all_blocks"
    dtype: torch.dtype = torch.float32


class LstmClassifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(6, 10, num_layers=2, batch_first=True, dropout=0.3)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(10, 4)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x)
        return self.head(self.dropout(states[:, -1]))


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(2)
        self.middle = nn.Sequential(nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(inplace=True))
        self.up = nn.ConvTranspose2d(16, 8, 2, stride=2)
        self.out = nn.Conv2d(16, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.down(x)
        return self.out(torch.cat([skip, self.up(self.middle(self.pool(skip)))], dim=1))


class ReturnsDict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 12), nn.GELU())
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> dict[str, Any]:
        features = self.body(x)
        return {"logits": self.head(features), "extra": [features, None, "text"]}


class SharedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.shared = nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.shared(torch.relu(self.shared(x))))


class Concatenates(nn.Module):
    """A block that is wider than its last part."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Linear(6, 4), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.left(x), self.right(x)], dim=1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        found, _ = self.attention(x, x, x)
        return self.head(self.norm(x + found).mean(1))


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


def vgg11() -> nn.Module:
    """Without its classifier of 120 million weights, which would take most of the test."""
    with torch.device("meta"):
        features = torchvision.models.vgg11(init_weights=False).features
    features = features.to_empty(device="cpu")
    for module in features.modules():
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return nn.Sequential(features, nn.Flatten(), nn.Dropout(), nn.Linear(512, 10))


def vit() -> nn.Module:
    model = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64,
        num_classes=10, dropout=0.1,
    )  # fmt: skip
    nn.init.normal_(model.heads[0].weight)  # zero as it comes: every output would be equal
    return model


def swin() -> nn.Module:
    return torchvision.models.SwinTransformer(
        patch_size=[4, 4], embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4],
        num_classes=10,
    )  # fmt: skip


def transformer() -> nn.Module:
    layer = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


def traced_part() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing is deprecated, and still in use
        body = torch.jit.trace(nn.Sequential(nn.Linear(6, 12), nn.Tanh()), torch.randn(2, 6))
    return nn.Sequential(body, nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 4))


IMAGE = (2, 3, 32, 32)
ZOO: dict[str, Case] = {
    "mlp": Case(mlp, (5, 6), "all_linear"),
    "resnet18": Case(lambda: torchvision.models.resnet18(num_classes=10), IMAGE),
    "vgg11": Case(vgg11, IMAGE, "all_conv"),
    "mobilenet_v2": Case(
        lambda: torchvision.models.mobilenet_v2(num_classes=10, width_mult=0.35), IMAGE
    ),
    "vit": Case(vit, IMAGE),
    "swin": Case(swin, IMAGE),
    "lstm": Case(LstmClassifier, (3, 7, 6), ["lstm", "head"]),
    "transformer": Case(transformer, (3, 9, 64)),
    "attention": Case(Attention, (3, 5, 8), ["attention", "norm", "head"]),
    "unet": Case(UNet, (2, 3, 16, 16), "all_conv"),
    "dict": Case(ReturnsDict, (5, 6), "all_linear"),
    "shared": Case(SharedLayer, (5, 6), "all_linear"),
    "bf16": Case(lambda: mlp().bfloat16(), (5, 6), "all_linear", torch.bfloat16),
    "float64": Case(lambda: mlp().double(), (5, 6), "all_linear", torch.float64),
    "traced": Case(traced_part, (5, 6), ["0", "1", "3"]),
    "concatenates": Case(
        lambda: nn.Sequential(Concatenates(), nn.ReLU(), nn.Linear(8, 4)), (5, 6), ["0", "2"]
    ),
}


def tensors(output: Any) -> list[Tensor]:
    """Every tensor of an output, in order."""
    if isinstance(output, Tensor):
        return [output]
    if isinstance(output, dict):
        output = list(output.values())
    return [t for one in output for t in tensors(one)] if isinstance(output, (list, tuple)) else []


def hooks(model: nn.Module) -> int:
    """How many hooks of any kind a model carries."""
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)
