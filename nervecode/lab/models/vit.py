"""A small vision Transformer (Dosovitskiy et al. 2021, https://arxiv.org/abs/2010.11929).

Tokens are averaged before the head; blocks normalise first (https://arxiv.org/abs/2002.04745).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nervecode.lab.data.samples import Shape
from nervecode.lab.models.classifier import Classifier, image_shape
from nervecode.lab.schema import ModelConfig

HEADS = 4


class Attention(nn.Module):
    """Multi-head self-attention."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = math.gcd(width, HEADS)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        parts = self.qkv(x).unflatten(2, (3, self.heads, -1))  # (B, T, 3, heads, C / heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        # Written out: on few tokens PyTorch's fused attention is no quicker, and its backward in
        # bfloat16 on a CPU is ten times as slow.
        weights = (query * query.shape[-1] ** -0.5 @ key.mT).softmax(-1)
        out: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return out


class EncoderBlock(nn.Module):
    """Attention, then a perceptron twice as wide, each behind a norm and around a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, C) -> (B, T, C)."""
        x = x + self.attention(self.norm1(x))
        result: Tensor = x + self.mlp(self.norm2(x))
        return result


class ViT(Classifier):
    """Square patches as tokens, `depth` blocks, the mean over tokens feeds the head."""

    def __init__(self, shape: Shape, width: int, depth: int, num_classes: int) -> None:
        super().__init__(width, num_classes)
        channels, height, breadth = shape
        self.patch = patch_size(height, breadth)
        self.embed = nn.Conv2d(channels, width, self.patch, stride=self.patch)
        tokens = math.ceil(height / self.patch) * math.ceil(breadth / self.patch)
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, tokens, width), std=0.02))
        self.blocks = nn.Sequential(*[EncoderBlock(width) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)

    def features(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, width)."""
        bottom, right = -x.shape[2] % self.patch, -x.shape[3] % self.patch
        maps = self.embed(F.pad(x, (0, right, 0, bottom)))
        tokens = maps.flatten(2).transpose(1, 2) + self.position  # (B, T, C)
        out: Tensor = self.norm(self.blocks(tokens)).mean(1)
        return out


def patch_size(height: int, width: int) -> int:
    """The side of a patch: a power of two, at least 2, with 7 to 13 patches to the longer side.

    >>> [patch_size(side, side) for side in (8, 28, 32, 64, 224)]
    [2, 4, 4, 8, 32]
    """
    return int(2 ** max(1, math.floor(math.log2(max(height, width) / 7))))


def vit(config: ModelConfig, shape: Shape, num_classes: int) -> Classifier:
    """A Transformer over patches, with `depth` blocks (default 4)."""
    return ViT(image_shape(config, shape), config.width, config.depth or 4, num_classes)
