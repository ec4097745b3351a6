"""The layout of a module's output, read off the module: how many channels, and where."""

from __future__ import annotations

from torch import nn


def output_layout(module: nn.Module) -> tuple[int | None, int | None]:
    """(width, channel_dim) of a module's output, each None where the module does not say.

    A composite module is taken to end in the last of its parts that has a known width; where its
    channels are is left open, since a block may permute them.

    >>> output_layout(nn.Conv2d(3, 16, 3))
    (16, 1)
    """
    found: tuple[int | None, int | None] = (None, None)
    for part in module.modules():
        if isinstance(part, nn.modules.conv._ConvNd):
            found = (part.out_channels, 1)
        elif isinstance(part, nn.modules.batchnorm._BatchNorm):
            found = (part.num_features, 1)
        elif isinstance(part, nn.Linear):
            found = (part.out_features, -1)
        elif isinstance(part, nn.LayerNorm) and len(part.normalized_shape) == 1:
            found = (part.normalized_shape[0], -1)
        elif isinstance(part, nn.MultiheadAttention):
            found = (part.embed_dim, -1)
    composite = next(module.children(), None) is not None
    return (found[0], None) if composite else found
