"""Shifts: the ID test split, changed in a stated strength. All but noise are for images."""

from __future__ import annotations

from functools import wraps

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from nervecode.errors import InputError
from nervecode.lab.data.registry import MakeShift


def of_images(shift: MakeShift) -> MakeShift:
    """A shift that refuses inputs that are not (N, C, H, W) images."""

    @wraps(shift)
    def checked(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
        if x.ndim != 4:
            raise InputError(
                f"data: the shift {shift.__name__!r} is for images, found inputs of shape "
                f"{tuple(x.shape[1:])}; allowed for features: noise"
            )
        return shift(x, strength, generator)

    return checked


def noise(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Normal noise of a deviation (default 0.3): of images clipped to [0, 1], of features in units
    of each one's own deviation, of series of each channel's.
    """
    deviation = 0.3 if strength is None else strength
    if deviation <= 0:
        raise InputError(f"data: the shift 'noise': found {deviation:g}, allowed: above 0")
    step = deviation * torch.randn(x.shape, generator=generator)
    if x.ndim == 4:
        return (x + step).clamp(0, 1)
    return x + x.std((0,) if x.ndim == 2 else (0, 2), correction=0, keepdim=True) * step


@of_images
def hflip(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Mirrored left to right."""
    return x.flip(-1)


@of_images
def vflip(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Mirrored top to bottom."""
    return x.flip(-2)


@of_images
def rotate(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Rotated by degrees (default 90), bilinear, corners black."""
    turned: Tensor = F.rotate(
        x, 90.0 if strength is None else strength, F.InterpolationMode.BILINEAR
    )
    return turned


@of_images
def blur(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Gaussian blur of a deviation in pixels (default 1)."""
    sigma = 1.0 if strength is None else strength
    side = min(x.shape[-2:])
    if not 0 < round(3 * sigma) < side:  # the kernel's half, which mirrors the image
        raise InputError(
            f"data: the shift 'blur': found {sigma:g}, allowed for pictures of {x.shape[-2]} x "
            f"{x.shape[-1]} pixels: above 0, below {side / 3:.3g}"
        )
    blurred: Tensor = F.gaussian_blur(
        x, kernel_size=[2 * round(3 * sigma) + 1] * 2, sigma=[sigma] * 2
    )
    return blurred


@of_images
def contrast(x: Tensor, strength: float | None, generator: torch.Generator) -> Tensor:
    """Contrast around each image's own mean, times a factor (default 0.4)."""
    centre = x.mean(dim=(-3, -2, -1), keepdim=True)
    return (centre + (0.4 if strength is None else strength) * (x - centre)).clamp(0, 1)
