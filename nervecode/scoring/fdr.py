"""Selection from a batch with control of the false-discovery rate."""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.errors import InputError
from nervecode.scoring.false_alarms import ROUNDING, is_within


def select(p_values: Tensor, rate: float) -> Tensor:
    """Which inputs of a batch are selected as OOD, with few of the selected being ID.

    The procedure of Benjamini and Hochberg (1995): with m p-values, those of at most p_(i) are
    selected, for the largest i with m p_(i) <= rate i. The expected fraction of ID inputs among
    the selected is then at most `rate` times the fraction of ID inputs in the batch. That holds
    for conformal p-values of one calibration set where its inputs and those of the batch are
    independent, since p-values of ID inputs are then positively dependent (PRDS; Bates et al.
    2023, theorem 2, https://doi.org/10.1214/22-AOS2244; Jin and Candes 2023,
    https://arxiv.org/abs/2210.01408). It holds for p-values within the predicted class as well, but
    not where some inputs are `pooled`.

    Args:
        p_values: (m,) of the whole batch; NaN is selected in any case, and does not count.
        rate: in (0, 1).

    Returns:
        (m,) bool, on the device of the p-values.

    Raises:
        InputError: no tensor, another shape, p-values outside [0, 1], or a rate outside (0, 1).
    """
    check_rate(rate)
    if not isinstance(p_values, Tensor):
        raise InputError(f"p-values: found {type(p_values).__name__}, allowed: a tensor (m,)")
    if p_values.ndim != 1:
        raise InputError(f"p-values: found shape {tuple(p_values.shape)}, allowed: (m,)")
    p = p_values.double()
    unknown = p.isnan()
    outside = (p < 0) | (p > 1)
    if outside.any():
        raise InputError(f"p-values: found {float(p[outside][0])}, allowed: 0 to 1, or NaN")
    ordered = p.masked_fill(unknown, torch.inf).sort().values
    ranks = torch.arange(1, len(p) + 1, dtype=p.dtype, device=p.device)
    passed = ordered * (~unknown).sum() <= rate * ranks * (1 + ROUNDING)  # p = k/(n + 1) is rounded
    threshold = ordered.where(passed, -torch.inf).amax() if len(p) else ordered.sum()
    return (p <= threshold) | unknown


def check_rate(rate: float) -> None:
    """Refuse a false-discovery rate outside (0, 1)."""
    if not is_within(rate):
        raise InputError(f"false-discovery rate: found {rate!r}, allowed: between 0 and 1")
