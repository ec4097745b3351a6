"""Selection from a batch with control of the false-discovery rate."""

from __future__ import annotations

from torch import Tensor

from nervecode.errors import InputError
from nervecode.rates import check_rate, largest_selected
from nervecode.scoring.percentiles import check_tensor


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
    check_rate("false-discovery rate", rate)
    check_tensor("p-values", p_values)
    if p_values.ndim != 1:
        raise InputError(f"p-values: found shape {tuple(p_values.shape)}, allowed: (m,)")
    p = p_values.double()
    unknown = p.isnan()
    outside = (p < 0) | (p > 1)
    if outside.any():
        raise InputError(f"p-values: found {float(p[outside][0])}, allowed: 0 to 1, or NaN")
    values, counts = p[~unknown].unique(return_counts=True)
    largest = largest_selected(dict(zip(values.tolist(), counts.tolist(), strict=True)), rate)
    return (p <= largest) | unknown
