"""Augmentation of batches, on their device: random crops and mirror images."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from nervecode.errors import InputError

PADDING = 4


def check_augment(how: str, inputs: Tensor) -> None:
    """Refuse to augment (N, ...) inputs that are no images.

    Raises:
        InputError: as in the text before.
    """
    if how != "none" and inputs.ndim != 4:
        raise InputError(
            f"train.augment: found {how!r}, allowed: none, since an input has shape "
            f"{tuple(inputs.shape[1:])}, and an image channels, height and width"
        )


@dataclass(frozen=True)
class Augmentation:
    """What happens to each of N images; drawn for a whole epoch, so that no step waits for it.

    Attributes:
        offsets: (2, N) rows and columns at which a crop of the padded image begins; None: no crop.
        mirrored: (N,) whether the image is turned left to right; None: none is.
    """

    offsets: Tensor | None = None
    mirrored: Tensor | None = None

    @classmethod
    def draw(
        cls, how: str, count: int, *, generator: torch.Generator, device: torch.device
    ) -> Augmentation:
        """The augmentation of `count` images.

        Args:
            how: `none`, `crop` or `crop_flip`.
            count: N.
            generator: the source of randomness, on the CPU.
            device: where the images are.
        """
        if how == "none":
            return cls()
        offsets = torch.randint(2 * PADDING + 1, (2, count), generator=generator).to(device)
        if how == "crop":
            return cls(offsets)
        return cls(offsets, (torch.rand(count, generator=generator) < 0.5).to(device))

    def __getitem__(self, part: slice) -> Augmentation:
        """The augmentation of some of the images."""
        return Augmentation(
            None if self.offsets is None else self.offsets[:, part],
            None if self.mirrored is None else self.mirrored[part],
        )

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W) images, cropped out of a zero-padded frame and mirrored."""
        if self.offsets is not None:
            x = _crop(x, *self.offsets)
        if self.mirrored is not None:
            x = torch.where(self.mirrored.view(-1, 1, 1, 1), x.flip(-1), x)
        return x


def _crop(x: Tensor, top: Tensor, left: Tensor) -> Tensor:
    """(N, C, H, W) windows whose corners are (N,) rows and columns of the padded image."""
    count, _, height, width = x.shape
    windows = F.pad(x, [PADDING] * 4).unfold(2, height, 1).unfold(3, width, 1)
    return windows[torch.arange(count, device=x.device), :, top, left]
