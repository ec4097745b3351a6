"""Residual networks for small images: a 3x3 stem, no pooling before the blocks.

ResNet: He et al. 2016, https://arxiv.org/abs/1512.03385 (stride in the 3x3 convolution of a
bottleneck, as in torchvision). Wide ResNet: Zagoruyko and Komodakis 2016,
https://arxiv.org/abs/1605.07146.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from nervecode.errors import InputError
from nervecode.lab.data.samples import Shape
from nervecode.lab.models.classifier import Classifier, image_shape
from nervecode.lab.schema import ModelConfig


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion = 1

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inside, width, 3, stride=stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(inside, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, C, H / stride, W / stride)."""
        out = self.norm2(self.conv2(self.relu(self.norm1(self.conv1(x)))))
        result: Tensor = self.relu(out + self.shortcut(x))
        return result


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1, the last four times as wide, around a shortcut."""

    expansion = 4

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        outside = self.expansion * width
        self.conv1 = nn.Conv2d(inside, width, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outside, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outside)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(inside, outside, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, 4 width, H / stride, W / stride)."""
        out = self.relu(self.norm1(self.conv1(x)))
        out = self.relu(self.norm2(self.conv2(out)))
        result: Tensor = self.relu(self.norm3(self.conv3(out)) + self.shortcut(x))
        return result


class WideBlock(nn.Module):
    """Two 3x3 convolutions, each behind norm and ReLU, around a shortcut."""

    expansion = 1

    def __init__(self, inside: int, width: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, width, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.relu = nn.ReLU()
        same = inside == width and stride == 1
        self.projection = None if same else nn.Conv2d(inside, width, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, H, W) -> (B, C, H / stride, W / stride)."""
        first = self.relu(self.norm1(x))
        # A projection reads what the convolution reads; an identity, the input itself.
        kept = x if self.projection is None else self.projection(first)
        out: Tensor = kept + self.conv2(self.relu(self.norm2(self.conv1(first))))
        return out


Block = type[BasicBlock] | type[Bottleneck] | type[WideBlock]


def _shortcut(inside: int, outside: int, stride: int) -> nn.Module:
    if inside == outside and stride == 1:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(inside, outside, 1, stride=stride, bias=False), nn.BatchNorm2d(outside)
    )


def _groups(block: Block, inside: int, widths: Sequence[int], counts: Sequence[int]) -> nn.Module:
    """Groups of blocks; all but the first group halve the map."""
    blocks: list[nn.Module] = []
    for group, (width, count) in enumerate(zip(widths, counts, strict=True)):
        for index in range(count):
            stride = 2 if group and not index else 1
            blocks.append(block(inside, width, stride))
            inside = block.expansion * width
    return nn.Sequential(*blocks)


_ELSEWHERE = {"stem.0.": "conv1.", "stem.1.": "bn1.", ".norm": ".bn", "head.": "fc."}


class ResNet(Classifier):
    """Four groups of blocks behind a 3x3 stem; widths w, 2w, 4w, 8w."""

    def __init__(
        self, block: Block, counts: Sequence[int], channels: int, width: int, num_classes: int
    ) -> None:
        super().__init__(8 * width * block.expansion, num_classes)
        self.stem = nn.Sequential(
            nn.Conv2d(channels, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.blocks = _groups(block, width, [width, 2 * width, 4 * width, 8 * width], counts)
        self._counts = tuple(counts)

    def key_elsewhere(self, key: str) -> str:
        """The name in OpenOOD's checkpoints and others of this stem, which count within groups."""
        for own, theirs in _ELSEWHERE.items():
            key = key.replace(own, theirs)
        part, _, rest = key.partition(".")
        if part != "blocks":
            return key
        number, _, name = rest.partition(".")
        group, index = 0, int(number)
        while index >= self._counts[group]:
            group, index = group + 1, index - self._counts[group]
        return f"layer{group + 1}.{index}.{name}"

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 8 width), four times as many with bottlenecks."""
        out: Tensor = self.blocks(self.stem(x))
        return out.mean(dim=(2, 3))


class WideResNet(Classifier):
    """Three groups of blocks behind a stem; widths w, then k w, 2 k w, 4 k w."""

    def __init__(
        self, channels: int, width: int, num_classes: int, *, depth: int, factor: int
    ) -> None:
        widths = [factor * width, 2 * factor * width, 4 * factor * width]
        super().__init__(widths[-1], num_classes)
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.blocks = _groups(WideBlock, width, widths, [(depth - 4) // 6] * 3)
        self.norm = nn.BatchNorm2d(widths[-1])
        self.relu = nn.ReLU()

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 k w)."""
        out: Tensor = self.relu(self.norm(self.blocks(self.stem(x))))
        return out.mean(dim=(2, 3))


def resnet18(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """ResNet-18 with a stem for small images."""
    channels = image_shape(config, shape)[0]
    return ResNet(BasicBlock, (2, 2, 2, 2), channels, config.width, num_classes)


def resnet34(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """ResNet-34 with a stem for small images."""
    channels = image_shape(config, shape)[0]
    return ResNet(BasicBlock, (3, 4, 6, 3), channels, config.width, num_classes)


def resnet50(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """ResNet-50 with a stem for small images."""
    channels = image_shape(config, shape)[0]
    return ResNet(Bottleneck, (3, 4, 6, 3), channels, config.width, num_classes)


def wide_resnet28_10(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """Wide ResNet, ten times as wide as its stem (16 as published), of 28 layers or `depth`.

    Raises:
        InputError: a depth that is not 6 n + 4.
    """
    depth = config.depth or 28
    if depth < 10 or (depth - 4) % 6:
        raise InputError(f"model.depth: found {depth}, allowed: 10, 16, 22, 28, … (6 n + 4)")
    channels = image_shape(config, shape)[0]
    return WideResNet(channels, config.width, num_classes, depth=depth, factor=10)
