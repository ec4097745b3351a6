"""Images: files that nobody vouches for, decoded by one rule, and tensors fitted to a shape.

The rule is that of OpenOOD 1.5 (https://arxiv.org/abs/2306.09301): RGB, the shorter side resized
(bilinear, to bytes), the centre cropped. Before it, pictures stand upright, as their EXIF data say,
and deeper ones become bytes. Data sets and inputs to score meet the network through it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import functional as vision

from nervecode.errors import InputError
from nervecode.lab.data.samples import Shape, as_float

if TYPE_CHECKING:
    from PIL import Image

# Pillow knows more, and some of those run other programs (EPS).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
IMAGE_SUFFIXES = (
    ".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm",
    ".apng", ".jfif", ".jpe", ".pbm", ".pfm", ".pnm",
)  # fmt: skip
MAX_PIXELS = 50_000_000  # 150 MB in RGB
RULE = "RGB as shown, shorter side resized (bilinear, to bytes), centre cropped, in [0, 1]"
UNREADABLE = (OSError, ValueError, SyntaxError)  # what Pillow and `open_image` raise
LAST = "where the channels are last, x.transpose(0, 3, 1, 2) brings them to the front"
SIDE = 32  # of pictures of many sizes, where a config names none
# Bytes are converted so many images at a time, since floats take four times the room.
FITTED = 4096


def unreadable(name: str, error: Exception) -> str:
    """The start of an error about what is no readable image."""
    from PIL import UnidentifiedImageError

    unknown = isinstance(error, UnidentifiedImageError)
    return f"{name}: not a readable image ({'of no known format' if unknown else error})"


@contextmanager
def open_image(path: Path | IO[bytes]) -> Iterator[Image.Image]:
    """An image, opened and not yet decoded; the size is what its header says.

    Raises:
        ValueError: another format, or more than `MAX_PIXELS`.
        OSError: a file that is no image, or, when it is decoded, one that ends too early.
    """
    from PIL import Image, ImageFile

    ImageFile.LOAD_TRUNCATED_IMAGES = False  # another library may have asked for grey gaps
    try:
        image = Image.open(path, formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise ValueError(str(error)) from None
    with image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ValueError(f"{width} x {height} pixels, allowed: {MAX_PIXELS:,}")
        yield image


def is_image(path: Path) -> bool:
    """Whether a file is an image that `open_image` opens, whatever its name."""
    try:
        with open_image(path):
            return True
    except UNREADABLE:
        return False


def as_shown(image: Image.Image) -> Image.Image:
    """An image in RGB bytes as a viewer shows it: turned as its EXIF data say, on white.

    16-bit pixels are those over their whole range, floats those from 0 to 1. Pillow would cut
    either off at 255.

    Raises:
        ValueError: integers of 32 bits, whose range no file tells, or floats beyond 0 to 1.
    """
    from PIL import Image

    upright = _upright(image)
    if upright.mode == "F":
        return _from_floats(np.asarray(upright)).convert("RGB")
    # Older releases of Pillow read 16-bit PNG and PGM as mode I.
    if upright.mode.startswith("I;16") or (upright.mode == "I" and image.format in ("PNG", "PPM")):
        return _from_floats(np.asarray(upright, dtype=np.float32) / 65535).convert("RGB")
    if upright.mode == "I":
        raise ValueError("32-bit integer pixels, allowed: 8 or 16 bits, or floats from 0 to 1")
    if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return upright.convert("RGB")


def _upright(image: Image.Image) -> Image.Image:
    from PIL import ImageOps

    image.load()  # a file that ends too early is told here
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF data raise errors of many kinds; the pixels are whole
        return image


def _from_floats(array: np.ndarray) -> Image.Image:
    from PIL import Image

    if not (array.min() >= 0 and array.max() <= 1):  # nor NaN
        raise ValueError(
            f"float pixels from {array.min():g} to {array.max():g}, allowed: from 0 to 1"
        )
    return Image.fromarray((array * 255).round().astype(np.uint8))


def decode(file: Path | IO[bytes], side: int, *, resize: int | None = None) -> Tensor:
    """(3, side, side) uint8 of an image file.

    Args:
        file: the image.
        side: of the square that is cropped from the centre.
        resize: what the shorter side is before that; None for `side`, which crops least.

    Raises:
        UNREADABLE: no readable image.
    """
    shorter = resize or side
    with open_image(file) as image:
        longer = shorter * max(image.size) // min(image.size)
        if shorter * longer > MAX_PIXELS:
            raise ValueError(
                f"{image.width} x {image.height} pixels, {longer:,} x {shorter} once resized, "
                f"allowed: {MAX_PIXELS:,}"
            )
        resized = vision.resize(as_shown(image), shorter, vision.InterpolationMode.BILINEAR)
    array = np.array(vision.center_crop(resized, [side, side]))
    return torch.from_numpy(array).permute(2, 0, 1)


def image_tensor(array: np.ndarray) -> Tensor:
    """(H, W, 3) or (H, W) uint8 -> (3, H, W) float in [0, 1]."""
    if array.ndim == 2:
        array = np.repeat(array[:, :, None], 3, axis=2)
    return torch.from_numpy(np.array(array)).permute(2, 0, 1).float() / 255


def doubts(images: np.ndarray) -> list[str]:
    """What is to be told of arrays, (N, C, H, W) or (N, H, W), that may be other pictures."""
    channels, height, width = images.shape[1:] if images.ndim == 4 else (1, *images.shape[1:])
    sentences = []
    if images.dtype == np.uint8 and images.max() == 1:
        sentences.append(
            "bytes of 0 and 1 alone are nearly black, as white is 255; x * 255 stretches them"
        )
    if _channels_look_last((channels, height, width)):
        sentences.append(f"pictures of {channels} channels and {height} x {width} pixels; {LAST}")
    return sentences


def _channels_look_last(shape: Shape) -> bool:
    channels, height, width = shape
    return channels not in (1, 3, 4) and width < min(channels, height)


def fit_images(images: Tensor, shape: Shape) -> Tensor:
    """(N, c, h, w) images as (N, *shape): grey or RGB, resized and cropped as `decode` does.

    Bilinear with antialiasing, in floats. Bytes stay bytes; what has the shape stays as it is.

    Raises:
        InputError: a shape that is not that of an image.
    """
    if tuple(images.shape[1:]) == shape:
        return images
    if len(shape) != 3 or images.ndim != 4:
        given = tuple(images.shape[1:])
        if images.ndim == 4:
            raise InputError(
                f"pictures of shape {given} do not fit inputs of {shape}, which are no pictures; "
                "the presets table and series are for such"
            )
        raise InputError(f"inputs of shape {given} do not fit inputs of {shape}")
    if images.dtype == torch.uint8:
        parts = [fit_images(as_float(part), shape) for part in images.split(FITTED)]
        return torch.cat([part.mul_(255).round_().to(torch.uint8) for part in parts])
    if shape[0] == 1 and images.shape[1] == 3:
        # ITU-R 601 luma, as Pillow converts to grey.
        weights = torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
        images = (images * weights).sum(1, keepdim=True)
    elif shape[0] == 3 and images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    elif shape[0] != images.shape[1]:
        turned = f"; {LAST}" if _channels_look_last(shape) else ""
        raise InputError(
            f"pictures of {images.shape[1]} channels do not fit inputs of {shape}, allowed: as "
            f"many channels, or grey and RGB{turned}"
        )
    height, width = shape[1:]
    h, w = images.shape[2:]
    if (h, w) != (height, width):
        cover = (height, w * height // h) if h * width <= w * height else (h * width // w, width)
        if cover[0] * cover[1] > MAX_PIXELS:
            raise InputError(
                f"pictures of {h} x {w} pixels are {cover[0]} x {cover[1]} once resized, allowed: "
                f"{MAX_PIXELS:,} pixels"
            )
        images = F.interpolate(images, cover, mode="bilinear", antialias=True)
        images = vision.center_crop(images, [height, width])
    return images.clamp(0, 1)
