"""Pictures as a viewer shows them: deep, turned, transparent, damaged."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nervecode.errors import InputError
from nervecode.lab.data.image_sets import folder
from nervecode.lab.data.images import UNREADABLE, decode
from tests.lab.inference.reading import read_inputs

GREY = np.random.default_rng(0).integers(0, 256, (12, 9), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 9, 3), dtype=np.uint8)


def stored(image: Image.Image, form: str, **options: object) -> io.BytesIO:
    file = io.BytesIO()
    image.save(file, form, **options)
    file.seek(0)
    return file


@pytest.mark.parametrize("form", ["PNG", "TIFF", "PPM"])
def test_a_picture_in_16_bits_is_that_in_8(form: str) -> None:
    deep = Image.fromarray(GREY.astype(np.uint16) * 257)
    expected = decode(stored(Image.fromarray(GREY), "PNG"), 8)
    assert torch.equal(decode(stored(deep, form), 8), expected)
    assert len(expected.unique()) > 20


def test_a_picture_in_floats_is_that_in_bytes() -> None:
    floats = Image.fromarray(GREY.astype(np.float32) / 255)
    expected = decode(stored(Image.fromarray(GREY), "PNG"), 8)
    assert torch.equal(decode(stored(floats, "TIFF"), 8), expected)


@pytest.mark.parametrize(
    ("pixels", "words"),
    [
        (GREY.astype(np.float32), r"float pixels from 0 to 248, allowed: from 0 to 1"),
        (np.full((4, 4), -0.5, np.float32), r"float pixels from -0\.5 to -0\.5"),
        (np.full((4, 4), np.nan, np.float32), r"float pixels from nan to nan"),
        (GREY.astype(np.int32) << 20, r"32-bit integer pixels, allowed: 8 or 16 bits"),
    ],
)
def test_pixels_of_no_known_range_are_refused_by_name(
    pixels: np.ndarray, words: str, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    path = tmp_path / "a/x.tif"
    Image.fromarray(pixels).save(path)
    with pytest.raises(InputError, match=rf"x\.tif: not a readable image \({words}"):
        read_inputs(str(path), (3, 8, 8))
    with pytest.raises(InputError, match=rf"x\.tif: not a readable image \({words}"):
        folder(str(tmp_path)).train.load(8)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_stands_as_its_exif_data_say(orientation: int, form: str) -> None:
    # What each number does to the pixels as they are stored: the EXIF standard, 4.6.5.1.
    shown = {
        1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud,
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1), 8: np.rot90,
    }  # fmt: skip
    blocks = np.kron(COLOUR[:2, :3], np.ones((16, 16, 1), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 100} if form in ("JPEG", "WEBP") else {}
    turned = decode(stored(Image.fromarray(blocks), form, exif=exif, **options), 32)
    upright = np.ascontiguousarray(shown[orientation](blocks))
    expected = decode(stored(Image.fromarray(upright), form, **options), 32)
    assert (turned.int() - expected.int()).abs().float().mean() < 1


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_exif_data_do_no_harm(form: str) -> None:
    random = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = np.frombuffer(exif.tobytes() + bytes(20), np.uint8)
    for _ in range(30):
        damaged = whole.copy()
        damaged[random.integers(6, len(whole), 5)] = random.integers(0, 256, 5)
        try:
            file = stored(Image.fromarray(COLOUR), form, exif=damaged.tobytes())
        except Exception:  # Pillow itself won't write it
            continue
        with suppress(UNREADABLE):
            assert decode(file, 8).shape == (3, 8, 8)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (200, 0, 0, 0)).convert(mode)
    options = {"transparency": clear.getpixel((0, 0))} if mode == "P" else {}
    assert (decode(stored(clear, "PNG", **options), 8) == 255).all()
    half = Image.new("RGBA", (8, 8), (200, 0, 0, 128))
    assert decode(stored(half, "PNG"), 8)[:, 0, 0].tolist() == pytest.approx([227, 127, 127], abs=1)
