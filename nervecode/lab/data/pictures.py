"""Outliers from pictures that the wheel of scikit-image carries.

The files are read where they lie: `skimage.data` would download what it does not find.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nervecode.lab.data.bundled import patches
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.images import fit_images, image_tensor, open_image
from nervecode.lab.data.locate import pictures_folder, require
from nervecode.lab.data.samples import Shape

FACES = 100


def textures(shape: Shape, generator: torch.Generator) -> Tensor:
    """Random 64x64 patches of brick, grass and gravel, resized."""
    photographs = []
    for path in _paths("textures"):
        with open_image(path) as image:
            photographs.append(image_tensor(np.array(image)))
    return patches(photographs, shape, generator, side=64)


def faces(shape: Shape, generator: torch.Generator) -> Tensor:
    """100 faces, 25x25 grey, resized; always the same."""
    (path,) = _paths("faces")
    # The file holds 100 faces, then 100 pieces of background.
    array = np.load(path, allow_pickle=False)[:FACES].astype(np.float32)
    return fit_images(torch.from_numpy(array).unsqueeze(1), shape)


def _paths(name: str) -> list[Path]:
    require([name])
    folder = pictures_folder()
    assert folder is not None
    return [folder / file for file in CATALOGUE[name].pictures]
