"""Combination of the p-values of several layers into one.

`fisher` assumes independent layers, which layers of one network are not: its result is a score to
calibrate, not a p-value to trust. `simes` holds under positive dependence, `harmonic` (after its
calibration factor) under any.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from nervecode.errors import InputError, did_you_mean
from nervecode.scoring.percentiles import check_tensor


def fisher(p: Tensor) -> Tensor:
    """(N, L) -> (N,): the chi-squared tail of -2 sum log p with 2 L degrees of freedom.

    Fisher 1925; exact for independent layers. For an even number of degrees the tail is a finite
    sum: exp(-x) sum_{k<L} x^k / k! with x = -sum log p.
    """
    x = -p.log().sum(1, keepdim=True)
    powers = torch.arange(p.shape[1], dtype=p.dtype, device=p.device)
    factorials = powers.clamp_min(1).log().cumsum(0)  # their logarithms; ONNX has no lgamma
    logs = powers * x.clamp_min(torch.finfo(p.dtype).tiny).log() - factorials
    return (torch.logsumexp(logs, dim=1) - x.squeeze(1)).exp().clamp_max(1.0)


def simes(p: Tensor) -> Tensor:
    """(N, L) -> (N,): min over i of L p_(i) / i, with p sorted upwards.

    Simes 1986, https://doi.org/10.1093/biomet/73.3.751; valid under positive dependence.
    """
    p = p.sort(dim=1).values
    ranks = torch.arange(1, p.shape[1] + 1, dtype=p.dtype, device=p.device)
    return (p.shape[1] * p / ranks).amin(1).clamp_max(1.0)


def harmonic(p: Tensor) -> Tensor:
    """(N, L) -> (N,): e log(L) times the harmonic mean of p; 2 times for two layers, p for one.

    The factor makes it valid under any dependence (Vovk and Wang 2020,
    https://doi.org/10.1093/biomet/asaa027; e log(2) would be too small for L = 2).
    """
    layers = p.shape[1]
    factor = max(2.0, math.e * math.log(layers)) if layers > 1 else 1.0
    return (factor * layers / p.reciprocal().sum(1)).clamp_max(1.0)


COMBINERS: dict[str, Callable[[Tensor], Tensor]] = {
    "fisher": fisher,
    "simes": simes,
    "harmonic": harmonic,
}


def combine_p_values(p_values: Tensor, method: str = "simes") -> Tensor:
    """(N, L) p-values of L layers -> (N,) combined, by `fisher`, `simes` or `harmonic`.

    Raises:
        InputError: an unknown method, or p-values outside (0, 1].
    """
    if method not in COMBINERS:
        raise InputError(f"p-value method: found {method!r}; {did_you_mean(method, COMBINERS)}")
    return COMBINERS[method](_checked(p_values))


def _checked(p_values: Tensor) -> Tensor:
    check_tensor("p-values", p_values)
    if p_values.ndim != 2 or 0 in p_values.shape:
        raise InputError(f"p-values: found shape {tuple(p_values.shape)}, allowed: (N, L)")
    if not ((p_values > 0) & (p_values <= 1)).all():
        raise InputError("p-values: found values outside (0, 1], allowed: 0 < p <= 1")
    return p_values.double()
