"""ResNet-18 for small images (He et al. 2016, https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

from torch import Tensor, nn

from nervecode.lab.data.registry import register
from nervecode.lab.models.classifier import MODELS, Classifier, Shape, image_shape
from nervecode.lab.schema import ModelConfig


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()
        same = inside == outside and stride == 1
        self.shortcut = nn.Identity() if same else _projection(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, C, H / stride, W / stride)."""
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        result: Tensor = self.relu(out + self.shortcut(x))
        return result


def _projection(inside: int, outside: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside)
    )


class ResNet18(Classifier):
    """Eight basic blocks behind a 3x3 stem; widths w, 2w, 4w, 8w."""

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        super().__init__(8 * width, num_classes)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        widths = [width, width, 2 * width, 4 * width, 8 * width]
        self.blocks = nn.Sequential(
            *[
                BasicBlock(inside if first else outside, outside, stride if first else 1)
                for inside, outside, stride in zip(widths, widths[1:], [1, 2, 2, 2], strict=False)
                for first in (True, False)
            ]
        )

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 8 width)."""
        out: Tensor = self.blocks(self.stem(x))
        return out.mean(dim=(2, 3))


@register(MODELS)
def resnet18(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """ResNet-18 with a stem for small images."""
    return ResNet18(image_shape(config, shape)[0], config.width, num_classes)
