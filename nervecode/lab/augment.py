"""Augmentation of a batch, on its device: random crops and mirror images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

PADDING = 4


def augment(x: Tensor, how: str, generator: torch.Generator) -> Tensor:
    """(B, C, H, W) images, each cropped out of a zero-padded frame and perhaps mirrored.

    Args:
        x: the batch; features (B, D) pass unchanged, as does anything with `how` = `none`.
        how: `none`, `crop` or `crop_flip`.
        generator: the source of the offsets, on the CPU.
    """
    if how == "none" or x.ndim != 4:
        return x
    x = _crop(x, generator)
    if how == "crop_flip":
        mirrored = torch.rand(len(x), generator=generator).to(x.device) < 0.5
        x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
    return x


def _crop(x: Tensor, generator: torch.Generator) -> Tensor:
    count, channels, height, width = x.shape
    padded = F.pad(x, [PADDING] * 4)
    offsets = torch.randint(2 * PADDING + 1, (2, count, 1), generator=generator).to(x.device)
    rows = offsets[0] + torch.arange(height, device=x.device)  # (B, H)
    columns = offsets[1] + torch.arange(width, device=x.device)  # (B, W)
    batch = torch.arange(count, device=x.device).view(-1, 1, 1, 1)
    channel = torch.arange(channels, device=x.device).view(1, -1, 1, 1)
    return padded[batch, channel, rows.view(count, 1, -1, 1), columns.view(count, 1, 1, -1)]
