"""Sets that come with the dependencies, and noise: nothing here needs a download."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch
from torch import Tensor

from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.images import fit_images, image_tensor
from nervecode.lab.data.samples import Samples, Shape

OUTLIER_COUNT = 500


@cache
def digits() -> Dataset:
    """1,797 handwritten digits, 8x8 grey, ten classes (UCI, with scikit-learn)."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.from_numpy(data.images / 16.0).float().unsqueeze(1)
    return Dataset(Samples(images, torch.from_numpy(data.target).long()))


def wine() -> Dataset:
    """178 wines of three growers, 13 features as measured (UCI, with scikit-learn)."""
    from sklearn.datasets import load_wine

    return _table(load_wine(return_X_y=True))


def breast_cancer() -> Dataset:
    """569 tumours, malignant (0) or benign (1), 30 features as measured (UCI, scikit-learn)."""
    from sklearn.datasets import load_breast_cancer

    return _table(load_breast_cancer(return_X_y=True))


def blobs() -> Dataset:
    """2,000 points of the plane in four Gaussian blobs: three side by side, the fourth far away."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[0.0, 0.0], [4.0, 0.0], [2.0, 3.5], [12.0, 12.0]])
    labels = torch.arange(2000) % len(centres)
    points = centres[labels] + 0.7 * torch.randn(len(labels), 2, generator=generator)
    return Dataset(Samples(points, labels))


def photo_patches(shape: Shape, generator: torch.Generator) -> Tensor:
    """Random 64x64 patches of scikit-learn's two sample photographs, resized."""
    return patches(_photographs(), shape, generator, side=64)


def uniform_noise(shape: Shape, generator: torch.Generator) -> Tensor:
    """Every value uniform in [0, 1], the range of an image."""
    return torch.rand(OUTLIER_COUNT, *shape, generator=generator)


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
