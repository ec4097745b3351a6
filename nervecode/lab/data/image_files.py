"""ImageFiles: pictures in files, listed with their classes and decoded at the size asked for."""

from __future__ import annotations

import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.images import open_image
from nervecode.lab.data.samples import Samples

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
SIDE = 32


@dataclass(frozen=True)
class ImageFiles:
    """N pictures in files.

    Attributes:
        paths: the files.
        labels: the class of each; -1 where there is no class.
    """

    paths: tuple[Path, ...]
    labels: tuple[int, ...]

    @classmethod
    def listed(cls, pairs: Iterable[tuple[Path, int]]) -> ImageFiles:
        """Files from (path, label) pairs."""
        found = list(pairs)
        return cls(tuple(path for path, _ in found), tuple(label for _, label in found))

    def __len__(self) -> int:
        return len(self.paths)

    def of(self, classes: list[int] | None) -> ImageFiles:
        """Those of some classes; None keeps all."""
        if classes is None:
            return self
        pairs = zip(self.paths, self.labels, strict=True)
        return ImageFiles.listed(pair for pair in pairs if pair[1] in classes)

    def sample(self, limit: int | None, generator: torch.Generator) -> ImageFiles:
        """At most so many of them at random, since files are sorted by class; in their order."""
        if limit is None or limit >= len(self):
            return self
        chosen = sorted(torch.randperm(len(self), generator=generator)[:limit].tolist())
        return ImageFiles.listed((self.paths[i], self.labels[i]) for i in chosen)

    def load(self, side: int) -> Samples:
        """Samples of (N, 3, side, side) uint8, by the rule of OpenOOD 1.5.

        RGB, the shorter side resized to `side` (bilinear), the centre cropped
        (https://arxiv.org/abs/2306.09301).

        Raises:
            InputError: a file that is no readable picture.
        """
        images = torch.empty(len(self), 3, side, side, dtype=torch.uint8)
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for index, image in enumerate(pool.map(lambda path: decode(path, side), self.paths)):
                images[index] = image
        return Samples(images, torch.tensor(self.labels, dtype=torch.int64))


def decode(path: Path, side: int) -> Tensor:
    """(3, side, side) uint8, as `ImageFiles.load` has it."""
    from torchvision.transforms import functional as F

    try:
        with open_image(path) as image:
            resized = F.resize(image.convert("RGB"), side, F.InterpolationMode.BILINEAR)
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"{path}: not a readable image ({error})") from None
    array = np.array(F.center_crop(resized, [side, side]))
    return torch.from_numpy(array).permute(2, 0, 1)


def images_below(folder: Path) -> list[Path]:
    """Every picture in a folder and its sub-folders, sorted; hidden files are none."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return sorted(path for path in found if path.name[0] != ".")
