"""A multilayer perceptron."""

from __future__ import annotations

import math
from itertools import pairwise

from torch import Tensor, nn

from nervecode.lab.data.samples import Shape
from nervecode.lab.models.classifier import Classifier
from nervecode.lab.schema import ModelConfig


class MLP(Classifier):
    """`depth` layers of `width` with ReLU over the flattened input."""

    def __init__(self, inputs: int, width: int, depth: int, num_classes: int) -> None:
        super().__init__(width, num_classes)
        widths = [inputs, *[width] * depth]
        self.blocks = nn.Sequential(
            *[
                part
                for inside, outside in pairwise(widths)
                for part in (nn.Linear(inside, outside), nn.ReLU())
            ]
        )

    def features(self, x: Tensor) -> Tensor:
        """(B, ...) -> (B, width)."""
        out: Tensor = self.blocks(x.flatten(1))
        return out


def mlp(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """A perceptron with `depth` hidden layers (default 2)."""
    return MLP(math.prod(shape), config.width, config.depth or 2, num_classes)
