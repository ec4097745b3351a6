"""Offered: data sets of installed packages, which return arrays or tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.lab.data.dataset import Dataset
from nervecode.lab.data.samples import Samples


def as_dataset(name: str, given: Any) -> Dataset:
    """What the function of a package returned as a labelled set.

    Args:
        name: the set's.
        given: a Dataset; or (x, y), or (x, y, x_test, y_test): inputs as pictures (N, C, H, W) in
            [0, 1] or bytes, series (N, C, T) or vectors (N, D), and numbers of classes (N,).

    Raises:
        InputError: it is something else, holds NaN or infinity, or pictures of floats that leave
            [0, 1].
    """
    if isinstance(given, Dataset):
        for part in (given.train, given.test, given.calibration):
            if part is not None:
                _check_pictures(name, part.inputs)
        return given
    if not isinstance(given, tuple) or len(given) not in (2, 4):
        raise InputError(
            f"data: {name}: returned {type(given).__name__}, allowed: (x, y), or (x, y, x_test, "
            "y_test)"
        )
    parts = [_samples(name, x, y) for x, y in zip(given[::2], given[1::2], strict=True)]
    if any(part.inputs.shape[1:] != parts[0].inputs.shape[1:] for part in parts):
        raise InputError(f"data: {name}: x and x_test have inputs of other shapes")
    return Dataset(parts[0], parts[1] if len(parts) > 1 else None)


def _samples(name: str, x: Any, y: Any) -> Samples:
    inputs, labels = _tensor(name, "x", x), _tensor(name, "y", y)
    if inputs.dtype != torch.uint8 or inputs.ndim != 4:
        inputs = inputs.float()
    whole = not labels.is_floating_point() and labels.dtype != torch.bool
    if labels.ndim != 1 or not whole or len(labels) != len(inputs) or inputs.ndim < 2:
        raise InputError(
            f"data: {name}: found x {tuple(inputs.shape)} and y {tuple(labels.shape)} "
            f"{str(labels.dtype).removeprefix('torch.')}, allowed: inputs (N, …) and whole numbers "
            "of classes (N,)"
        )
    if len(labels) and int(labels.min()) < 0:
        raise InputError(f"data: {name}: found class {int(labels.min())}, allowed: from 0")
    if not inputs.isfinite().all():
        raise InputError(f"data: {name}: x holds NaN or infinity")
    _check_pictures(name, inputs)
    return Samples(inputs, labels.long())


def _check_pictures(name: str, inputs: Tensor) -> None:
    if inputs.ndim != 4 or inputs.dtype == torch.uint8 or not len(inputs):
        return
    low, high = map(float, inputs.aminmax())
    if low < 0 or high > 1:
        raise InputError(
            f"data: {name}: found values from {low:.3g} to {high:.3g}, allowed in pictures: 0 to "
            "1, or uint8; the network standardises them itself"
        )


def _tensor(name: str, part: str, value: Any) -> Tensor:
    try:
        return value if isinstance(value, Tensor) else torch.from_numpy(np.array(value))
    except (TypeError, ValueError) as error:
        raise InputError(f"data: {name}: {part} is no array of numbers ({error})") from None
