"""A small convolutional network for series."""

from __future__ import annotations

from torch import Tensor, nn

from nervecode.lab.data.samples import Shape
from nervecode.lab.models.classifier import Classifier, series_shape
from nervecode.lab.schema import ModelConfig

KERNEL = 5


class SeriesBlock(nn.Module):
    """Convolution over five steps, batch norm, ReLU: (B, c, T) -> (B, C, T / stride)."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            inside, outside, KERNEL, stride=stride, padding=KERNEL // 2, bias=False
        )
        self.norm = nn.BatchNorm1d(outside)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve, normalise, rectify."""
        out: Tensor = self.relu(self.norm(self.conv(x)))
        return out


class SeriesCNN(Classifier):
    """`depth` blocks; every second one halves the steps, and the second half is twice as wide.

    The mean over steps feeds the head, so that every length has the same weights.
    """

    def __init__(self, channels: int, width: int, depth: int, num_classes: int) -> None:
        widths = [width * (1 + (2 * block >= depth)) for block in range(depth)]
        super().__init__(widths[-1], num_classes)
        self.blocks = nn.Sequential(
            *[
                SeriesBlock(inside, outside, stride=1 + block % 2)
                for block, (inside, outside) in enumerate(
                    zip([channels, *widths], widths, strict=False)
                )
            ]
        )

    def features(self, x: Tensor) -> Tensor:
        """(B, C, T) -> (B, 2 width); (B, width) with one block."""
        out: Tensor = self.blocks(x)
        return out.mean(dim=2)


def conv1d(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """A convolutional network over the steps of a series, with `depth` blocks (default 4)."""
    channels, _ = series_shape(config, shape)
    return SeriesCNN(channels, config.width, config.depth or 4, num_classes)
