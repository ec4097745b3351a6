"""Sets that come with the dependencies, and noise: nothing here needs a download."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.functional import center_crop

from nervecode.errors import InputError
from nervecode.lab.data.registry import DATASETS, OUTLIERS, Dataset, Shape, register
from nervecode.lab.data.samples import Samples, as_float

OUTLIER_COUNT = 500
# Bytes are converted so many images at a time, since floats take four times the room.
FITTED = 4096


@register(DATASETS)
@cache
def digits() -> Dataset:
    """1,797 handwritten digits, 8x8 grey, ten classes (UCI, with scikit-learn)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images / 16.0).float().unsqueeze(1)
    return Dataset(Samples(images, torch.from_numpy(data.target).long()))


@register(DATASETS)
def wine() -> Dataset:
    """178 wines of three growers, 13 features as measured (UCI, with scikit-learn)."""
    from sklearn.datasets import load_wine

    return _table(load_wine(return_X_y=True))


@register(DATASETS)
def breast_cancer() -> Dataset:
    """569 tumours, malignant (0) or benign (1), 30 features as measured (UCI, scikit-learn)."""
    from sklearn.datasets import load_breast_cancer

    return _table(load_breast_cancer(return_X_y=True))


@register(DATASETS)
def blobs() -> Dataset:
    """2,000 points of the plane in four Gaussian blobs: three side by side, the fourth far away."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.5], [12.0, 12.0]])
    labels = torch.arange(2000) % len(centres)
    points = centres[labels] + 0.7 * torch.randn(len(labels), 2, generator=generator)
    return Dataset(Samples(points, labels))


@register(OUTLIERS)
def photo_patches(shape: Shape, generator: torch.Generator) -> Tensor:
    """Random 64x64 patches of scikit-learn's two sample photographs, resized."""
    return patches(_photographs(), shape, generator, side=64)


@register(OUTLIERS)
def uniform_noise(shape: Shape, generator: torch.Generator) -> Tensor:
    """Every value uniform in [0, 1], the range of an image."""
    return torch.rand(OUTLIER_COUNT, *shape, generator=generator)


@register(OUTLIERS)
def gaussian_noise(shape: Shape, generator: torch.Generator) -> Tensor:
    """Every value normal around 0.5 with deviation 0.25, clipped to [0, 1]."""
    return (0.5 + 0.25 * torch.randn(OUTLIER_COUNT, *shape, generator=generator)).clamp(0, 1)


def _table(data: tuple[np.ndarray, np.ndarray]) -> Dataset:
    features, labels = data
    return Dataset(Samples(torch.from_numpy(features).float(), torch.from_numpy(labels).long()))


@cache
def _photographs() -> list[Tensor]:
    from sklearn.datasets import load_sample_images

    return [image_tensor(image) for image in load_sample_images().images]


def image_tensor(array: np.ndarray) -> Tensor:
    """(H, W, 3) or (H, W) uint8 -> (3, H, W) float in [0, 1]."""
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    return torch.from_numpy(np.array(array)).permute(2, 0, 1).float() / 255


def patches(
    photographs: list[Tensor], shape: Shape, generator: torch.Generator, *, side: int
) -> Tensor:
    """(500, *shape) random square patches, taken from (3, H, W) photographs in turn."""
    cut = []
    for index in range(OUTLIER_COUNT):
        photograph = photographs[index % len(photographs)]
        _, height, width = photograph.shape
        top = int(torch.randint(height - side + 1, (1,), generator=generator))
        left = int(torch.randint(width - side + 1, (1,), generator=generator))
        cut.append(photograph[:, top : top + side, left : left + side])
    return fit_images(torch.stack(cut), shape)


def fit_images(images: Tensor, shape: Shape) -> Tensor:
    """(N, c, h, w) images as (N, *shape), by the rule of OpenOOD 1.5.

    Grey or RGB, resized bilinearly with antialiasing until they cover the shape, the centre
    cropped. Bytes stay bytes.

    Raises:
        InputError: a shape that is not that of an image.
    """
    if len(shape) != 3 or images.ndim != 4:
        raise InputError(f"inputs of shape {tuple(images.shape[1:])} do not fit inputs of {shape}")
    if images.dtype == torch.uint8:
        parts = [fit_images(as_float(part), shape) for part in images.split(FITTED)]
        return torch.cat([part.mul_(255).round_().to(torch.uint8) for part in parts])
    if shape[0] == 1 and images.shape[1] == 3:
        # ITU-R 601 luma, as Pillow converts to grey.
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        images = (images * weights).sum(1, keepdim=True)
    elif shape[0] == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    height, width = shape[1:]
    h, w = images.shape[2:]
    if (h, w) != (height, width):
        cover = (height, w * height // h) if h * width <= w * height else (h * width // w, width)
        images = F.interpolate(images, cover, mode="bilinear", antialias=True)
        images = center_crop(images, [height, width])
    return images.clamp(0, 1)
