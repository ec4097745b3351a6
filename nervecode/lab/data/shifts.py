"""Shifts: the ID test split, changed in a stated strength."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from nervecode.errors import InputError
from nervecode.lab.data.registry import SHIFTS, register


@register(SHIFTS)
def noise(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Normal noise of a deviation (default 0.3), clipped to [0, 1]."""
    deviation = 0.3 if strength is None else strength
    return (x + deviation * torch.randn(x.shape, generator=generator)).clamp(0, 1)


@register(SHIFTS)
def hflip(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Mirrored left to right."""
    return x.flip(-1)


@register(SHIFTS)
def vflip(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Mirrored top to bottom."""
    return x.flip(-2)


@register(SHIFTS)
def rotate(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Rotated by degrees (default 90), bilinear, corners black."""
    turned: Tensor = F.rotate(
        x, 90.0 if strength is None else strength, F.InterpolationMode.BILINEAR
    )
    return turned


@register(SHIFTS)
def blur(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Gaussian blur of a deviation in pixels (default 1)."""
    sigma = 1.0 if strength is None else strength
    if not sigma > 0:
        raise InputError(f"data: the shift 'blur': found {sigma:g}, allowed: above 0")
    blurred: Tensor = F.gaussian_blur(
        x, kernel_size=[2 * round(3 * sigma) + 1] * 2, sigma=[sigma] * 2
    )
    return blurred


@register(SHIFTS)
def contrast(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Contrast around each image's own mean, times a factor (default 0.4)."""
    centre = x.mean(dim=(-3, -2, -1), keepdim=True)
    return (centre + (0.4 if strength is None else strength) * (x - centre)).clamp(0, 1)
