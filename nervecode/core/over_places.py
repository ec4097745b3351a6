"""The places of an activation become one vector per input, (B, C, S) -> (B, D)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Reduce = Callable[[Tensor, "Tensor | None"], Tensor]
REDUCERS: dict[str, Reduce] = {}


def _register(function: Reduce) -> Reduce:
    REDUCERS[function.__name__] = function
    return function


# Each takes (B, C, S), and which of the S places are real, (B, S), or None where all are.


@_register
def mean(x: Tensor, real: Tensor | None = None) -> Tensor:
    """(B, C, S) -> (B, C): the mean of each channel over its S places."""
    return x.mean(dim=2) if real is None else _filled(x, real, 0).sum(dim=2) / _count(real)


@_register
def tokens(x: Tensor, real: Tensor | None = None) -> Tensor:
    """(B, C, S) -> (B, C): the mean over tokens, of (B, T, C) or (B, H, W, C) activations."""
    return mean(x, real)


@_register
def max(x: Tensor, real: Tensor | None = None) -> Tensor:
    """(B, C, S) -> (B, C): the largest value of each channel."""
    return x.amax(dim=2) if real is None else _filled(x, real, -torch.inf).amax(dim=2)


@_register
def mean_std(x: Tensor, real: Tensor | None = None) -> Tensor:
    """(B, C, S) -> (B, 2C): mean and standard deviation of each channel; (B, C) where S is 1."""
    centre = mean(x, real)
    if x.shape[2] == 1:
        return centre
    # About the mean: of a mean square less the square of a large mean, float32 has no digits. Not
    # torch.var_mean: over inner dimensions it is not vectorised on CPU.
    x = x - centre.unsqueeze(2)
    if real is not None:
        x = _filled(x, real, 0)
    count = x.shape[2] if real is None else _count(real)
    return torch.cat([centre, torch.linalg.vector_norm(x, dim=2) / count**0.5], dim=1)


@_register
def last_token(x: Tensor, real: Tensor | None = None) -> Tensor:
    """(B, C, S) -> (B, C): the last token, which alone has seen all others in a causal model."""
    if real is None:
        return x[:, :, -1].clone()  # a view would follow a later in-place operation
    steps = torch.arange(x.shape[2], device=x.device)
    last = torch.where(real, steps, -1).amax(dim=1)
    tokens = x.gather(2, last.clamp_min(0).view(-1, 1, 1).expand(-1, x.shape[1], 1)).squeeze(2)
    return torch.where((last < 0).unsqueeze(1), torch.nan, tokens)


def _filled(x: Tensor, real: Tensor, value: float) -> Tensor:
    """Padding replaced, not multiplied by 0: it may hold NaN."""
    return x.masked_fill(~real.unsqueeze(1), value)


def _count(real: Tensor) -> Tensor:
    """(B, 1) real places of each input. None at all: its vector is NaN, not that of another."""
    return real.sum(dim=1, keepdim=True)
