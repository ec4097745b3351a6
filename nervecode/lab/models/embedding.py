"""A head over vectors that some encoder made: of texts, sounds, proteins."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from nervecode.lab.data.samples import Shape
from nervecode.lab.models.classifier import Classifier, vector_shape
from nervecode.lab.schema import ModelConfig


class GivenVectors(nn.Module):
    """Vectors brought to one length, since encoders tell by direction: (B, D) -> (B, D)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(size)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each vector."""
        out: Tensor = self.norm(x)
        return out


class HiddenBlock(nn.Module):
    """Linear layer and ReLU: (B, d) -> (B, D)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inside, outside)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map, rectify."""
        out: Tensor = self.relu(self.linear(x))
        return out


class EmbeddingHead(Classifier):
    """The vectors themselves, `depth` hidden layers over them, and the head.

    The first block is the vector, so that a code of the encoder's own space is watched even where
    the head stands on it alone.
    """

    def __init__(self, size: int, width: int, depth: int, num_classes: int) -> None:
        widths = [size, *[width] * depth]
        super().__init__(widths[-1], num_classes)
        hidden = [HiddenBlock(inside, outside) for inside, outside in pairwise(widths)]
        self.blocks = nn.Sequential(GivenVectors(size), *hidden)

    def features(self, x: Tensor) -> Tensor:
        """(B, D) -> (B, width); (B, D) without hidden layers."""
        out: Tensor = self.blocks(x)
        return out


def embedding(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """A linear head over the vectors of an encoder, or one with `depth` hidden layers."""
    (size,) = vector_shape(config, shape)
    return EmbeddingHead(size, config.width, config.depth or 0, num_classes)
