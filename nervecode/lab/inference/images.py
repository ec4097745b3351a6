"""ImageInputs: the images of a folder, or one image, decoded a batch at a time."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.image_files import image_names
from nervecode.lab.data.images import IMAGE_SUFFIXES, UNREADABLE, decode, fit_images, unreadable
from nervecode.lab.data.samples import EVAL_BATCH, Shape, as_float
from nervecode.lab.data.seen import Seen
from nervecode.lab.inference.source import SKIPS, Inputs, Source


class ImageInputs(Source):
    """Image files, named by their path below the folder and sorted by it; a batch is a unit."""

    def __init__(
        self,
        path: Path,
        shape: Shape,
        *,
        skip_bad: bool,
        workers: int,
        resize: int | None = None,
    ) -> None:
        self.root = path if path.is_dir() else path.parent
        seen = Seen()
        self.names = image_names(path, seen.passed) if path.is_dir() else [path.name]
        self.remarks = tuple(seen.remarks(str(path)))
        if not self.names:
            raise InputError(f"{path}: holds no image; allowed: {', '.join(IMAGE_SUFFIXES)}")
        check_image_shape(self.root / self.names[0], shape)
        self.shape, self.skip_bad, self.workers = shape, skip_bad, workers
        self.resize = resize
        self.units = -(-len(self.names) // EVAL_BATCH)
        digest = hashlib.sha256()
        for name in self.names:
            digest.update(os.fsencode(name) + b"\0")
        self.identity = {"count": len(self.names), "names": digest.hexdigest()}

    def read(self, unit: int) -> Iterator[Inputs]:
        """The images of one batch that could be decoded."""
        names = self.names[unit * EVAL_BATCH : (unit + 1) * EVAL_BATCH]

        def decode(name: str) -> Tensor | str:
            file = self.root / name

            def read() -> Tensor:
                return fitted(file, self.shape, resize=self.resize)

            return tolerant(str(file), read, skip_bad=self.skip_bad)

        with ThreadPoolExecutor(self.workers) as pool:
            yield gather(names, list(pool.map(decode, names)), self.shape)


def gather(names: Sequence[str], decoded: Sequence[Tensor | str], shape: Shape) -> Inputs:
    """A batch of the images that were decoded; in place of a bad one stands why it is none."""
    images = [image for image in decoded if isinstance(image, Tensor)]
    ids = [name for name, image in zip(names, decoded, strict=True) if isinstance(image, Tensor)]
    skipped = tuple(image for image in decoded if isinstance(image, str))
    return Inputs(torch.cat(images) if images else torch.empty(0, *shape), ids, skipped)


def tolerant(name: str, read: Callable[[], Tensor], *, skip_bad: bool) -> Tensor | str:
    """What `read` returns; of an unreadable image, where such are skipped, its name and why.

    Raises:
        InputError: an unreadable image that is not skipped.
    """
    try:
        return read()
    except UNREADABLE as error:
        reason = unreadable(name, error)
        if skip_bad:
            return reason
        raise InputError(f"{reason}{SKIPS}") from None


def fitted(file: Path | IO[bytes], shape: Shape, *, resize: int | None = None) -> Tensor:
    """(1, *shape) in [0, 1], the same as the data set `folder:` makes of the file."""
    image = decode(file, max(shape[1:]), resize=resize)
    return as_float(fit_images(image.unsqueeze(0), shape))


def check_image_shape(name: Path | str, shape: Shape) -> None:
    """Refuse images for a model of features."""
    if len(shape) != 3:
        raise InputError(f"{name}: an image, but the model takes inputs of shape {shape}")
