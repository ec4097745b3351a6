"""Images from files that nobody vouches for: known formats, a limit of pixels, and no gaps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

# Pillow knows more, and some of those run other programs (EPS).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
MAX_PIXELS = 50_000_000  # 150 MB in RGB


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
