"""A small convolutional network for small images."""

from __future__ import annotations

from torch import Tensor, nn

from nervecode.lab.data.samples import Shape
from nervecode.lab.models.classifier import Classifier, image_shape
from nervecode.lab.schema import ModelConfig


class ConvBlock(nn.Module):
    """3x3 convolution, batch norm, ReLU: (B, c, H, W) -> (B, C, H / stride, W / stride)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inside, outside, 3, stride=stride, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, rectify."""
        out: Tensor = self.relu(self.norm(self.conv(x)))
        return out


class SmallCNN(Classifier):
    """Four blocks, the second and the fourth halve the map; the mean over places feeds the head."""

    def __init__(self, channels: int, width: int, num_classes: int) -> None:
        super().__init__(2 * width, num_classes)
        self.blocks = nn.Sequential(
            ConvBlock(channels, width, 1),
            ConvBlock(width, width, 2),
            ConvBlock(width, 2 * width, 1),
            ConvBlock(2 * width, 2 * width, 2),
        )

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 2 width)."""
        out: Tensor = self.blocks(x)
        return out.mean(dim=(2, 3))


def small_cnn(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """Four convolutional blocks."""
    return SmallCNN(image_shape(config, shape)[0], config.width, num_classes)
