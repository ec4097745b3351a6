"""Inputs to score: an image folder, an array file, or a data set by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError, did_you_mean
from nervecode.lab.data import DATASETS, IMAGE_SETS, OUTLIERS, as_float
from nervecode.lab.data.bundled import fit_images
from nervecode.lab.data.image_files import SUFFIXES as IMAGE_SUFFIXES
from nervecode.lab.data.load import load_outside
from nervecode.lab.files import check_archive, load_array
from nervecode.lab.images import open_image

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Inputs:
    """(N, *shape) float inputs, a name for each, and the files that were skipped."""

    inputs: Tensor
    ids: list[str]
    skipped: tuple[str, ...] = ()


def read_inputs(source: str, shape: Shape, *, skip_bad: bool = False) -> Inputs:
    """Read inputs in the shape that a model takes.

    Args:
        source: a folder of images, an image, an `.npy` or `.npz` file, or a data set's name.
        shape: (C, H, W) or (D,) of one input. Images are resized; arrays must fit.
        skip_bad: leave unreadable images out, rather than refuse all.

    Raises:
        InputError: nothing readable, a wrong shape, NaN or infinity, or an unknown name.
    """
    path = Path(source)
    if path.is_dir():
        return _folder(path, shape, skip_bad)
    if path.suffix in (".npy", ".npz"):
        return _array(path, shape)
    if path.is_file():
        return _images([path], shape, skip_bad)
    return _named(source, shape)


def _folder(folder: Path, shape: Shape, skip_bad: bool) -> Inputs:
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise InputError(f"{folder}: holds no image; allowed: {', '.join(IMAGE_SUFFIXES)}")
    return _images(files, shape, skip_bad, root=folder)


def _images(files: list[Path], shape: Shape, skip_bad: bool, root: Path | None = None) -> Inputs:
    if len(shape) != 3:
        raise InputError(f"{files[0]}: an image, but the model takes inputs of shape {shape}")
    tensors, ids, skipped = [], [], []
    for file in files:
        try:
            tensors.append(fit_images(_decode(file, shape[0]).unsqueeze(0), shape))
        except (OSError, ValueError, SyntaxError) as error:
            if not skip_bad:
                hint = "--skip-bad leaves it out"
                raise InputError(f"{file}: not a readable image ({error}); {hint}") from None
            skipped.append(str(file))
            continue
        ids.append(str(file.relative_to(root)) if root else file.name)
    if not tensors:
        raise InputError(f"{root or files[0]}: none of {len(files)} images is readable")
    return Inputs(torch.cat(tensors), ids, tuple(skipped))


def _decode(file: Path, channels: int) -> Tensor:
    """(channels, h, w) in [0, 1]."""
    with open_image(file) as image:
        array = np.array(image.convert("L" if channels == 1 else "RGB"))
    planes = array[None] if channels == 1 else array.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes)).float() / 255


def _array(path: Path, shape: Shape) -> Inputs:
    array = _load(path)
    if array.shape[1:] != shape and (1, *array.shape[1:]) == shape:
        array = array[:, None]  # (N, H, W) for a model of one channel
    if array.ndim != len(shape) + 1 or array.shape[1:] != shape or not len(array):
        raise InputError(f"{path}: found shape {array.shape}, allowed: (N, {_text(shape)}), N >= 1")
    if array.dtype.kind not in "fiu":
        raise InputError(f"{path}: found {array.dtype} values, allowed: float or uint8")
    with np.errstate(over="ignore"):
        values = torch.from_numpy(array.astype(np.float32))
    if not values.isfinite().all():
        raise InputError(f"{path}: holds NaN or infinity, allowed: finite float32 values")
    if array.dtype == np.uint8:
        values = values / 255
    return Inputs(values, [str(i) for i in range(len(array))])


def _load(path: Path) -> np.ndarray:
    try:
        if path.suffix == ".npy":
            return load_array(path)
        check_archive(path)
        with np.load(path, allow_pickle=False) as found:
            if len(found.files) != 1 and "inputs" not in found.files:
                raise InputError(
                    f"{path}: found arrays {', '.join(found.files) or '(none)'}; "
                    "allowed: one array, or one named 'inputs'"
                )
            array = found["inputs" if "inputs" in found.files else found.files[0]]
            if not isinstance(array, np.ndarray):
                raise ValueError("its member is no array")
            return array
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except InputError:
        raise
    except Exception as error:  # zipfile, zlib and numpy each raise errors of their own
        raise InputError(f"{path}: not a readable array file ({error})") from None


def _named(source: str, shape: Shape) -> Inputs:
    names = [*DATASETS, *IMAGE_SETS, *OUTLIERS]
    if source.partition(":")[0] not in names:
        raise InputError(
            f"--input {source}: neither a path nor a data set; {did_you_mean(source, names)}"
        )
    generator = torch.Generator().manual_seed(0)
    if source in OUTLIERS:
        inputs = OUTLIERS[source](shape, generator)
    else:
        inputs = as_float(load_outside(source, shape, generator=generator).inputs)
    return Inputs(inputs, [str(i) for i in range(len(inputs))])


def _text(shape: Shape) -> str:
    return ", ".join(map(str, shape))
