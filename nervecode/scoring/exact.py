"""Exact: one half of the calibration inputs makes the score, and the other ranks it."""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.scoring.layer_calibration import LayerCalibration, alike

LEAST = 2  # inputs of each half


def made_exact(calibration: LayerCalibration, *, seed: int = 0) -> LayerCalibration:
    """The same calibration with the theorem of conformal p-values, for half of its ranks.

    `code_length` and the combined p-values are made of calibration inputs. Ranked among inputs that
    had no part in it, as by split conformal prediction (Papadopoulos et al. 2002,
    https://doi.org/10.1007/3-540-36755-1_29), a score is exchangeable with theirs, whatever the
    distribution. A random half, the smaller, standardises; the smallest p-value is that of the
    other. A calibration of `mean`, `max` or `total`, which nothing makes, is exact as it is.

    Args:
        calibration: stays as it is.
        seed: of the halves.

    Raises:
        InputError: fewer than four inputs.
    """
    if calibration.exact:
        return calibration
    number = len(calibration.scores)
    if number < 2 * LEAST:
        raise InputError(
            f"calibrate exact: found {number} inputs, allowed: at least {2 * LEAST}, one half to "
            "standardise by and one to rank among"
        )
    generator = torch.Generator("cpu").manual_seed(seed)
    order = torch.randperm(number, generator=generator, device="cpu")
    made_of, ranked = order[: number // 2].sort().values, order[number // 2 :].sort().values

    def kept(values: Tensor | None) -> Tensor | None:
        return None if values is None else values[ranked]

    layers = calibration.layers.items()
    return alike(
        calibration,
        {name: rows[ranked] for name, rows in layers},
        kept(calibration.predicted),
        kept(calibration.weights),
        standard={name: rows[made_of] for name, rows in layers},
        calls=calibration.calls,
    )
