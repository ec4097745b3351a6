"""Reducers: an activation becomes one vector per input, (B, ...) -> (B, D)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.errors import InputError, did_you_mean

LENGTH_POWER = 0.25  # of fitted codes
SHORTEST = 1e-12  # what is shorter counts as this long, so that a dead layer gives 0
REDUCERS: dict[str, Callable[[Tensor], Tensor]] = {}


def _register(function: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    REDUCERS[function.__name__] = function
    return function


@_register
def mean(x: Tensor) -> Tensor:
    """(B, C, S) -> (B, C): the mean of each channel over its S places."""
    return x.mean(dim=2)


@_register
def tokens(x: Tensor) -> Tensor:
    """(B, C, S) -> (B, C): the mean over tokens, of (B, T, C) or (B, H, W, C) activations."""
    return x.mean(dim=2)


@_register
def max(x: Tensor) -> Tensor:
    """(B, C, S) -> (B, C): the largest value of each channel."""
    return x.amax(dim=2)


@_register
def mean_std(x: Tensor) -> Tensor:
    """(B, C, S) -> (B, 2C): mean and standard deviation of each channel; (B, C) where S is 1."""
    centre = x.mean(dim=2)
    if x.shape[2] == 1:
        return centre
    # Not torch.var_mean: over inner dimensions it is not vectorised on CPU. The floor keeps the
    # gradient of the root finite at a dead channel.
    power = torch.linalg.vector_norm(x, dim=2).square() / x.shape[2]
    variance = (power - centre.square()).clamp_min(torch.finfo(x.dtype).tiny)
    return torch.cat([centre, variance.sqrt()], dim=1)


class Reducer(nn.Module):
    """Turns a layer's activation into one float vector per input.

    Activations: (B, C), maps (B, C, H, W), tokens (B, T, C) or (B, H, W, C). The sums run in
    float32 at least, whatever the dtype of the activation.

    Args:
        name: `mean`, `max`, `mean_std`, or `tokens`: the mean, with channels last.
        channel_dim: where the channels are, 1 or -1. None finds the dimension of size `width`;
            where that does not decide, 3-D activations are tokens and others are maps.
        width: the number of channels, where it is known.
        length_power: p from 0 to 1; a vector keeps its direction, and its L2 norm is raised to p.
            1 leaves it as it is, 0 scales it to unit norm.
        pick: which part of a module's output is the activation: an index of a tuple, a key of a
            mapping; None takes the first tensor.

    Raises:
        InputError: an unknown name, a power out of range, or an activation with fewer than two
            dimensions.
    """

    def __init__(
        self,
        name: str = "mean",
        *,
        channel_dim: int | None = None,
        width: int | None = None,
        length_power: float = 1.0,
        pick: str | int | None = None,
    ) -> None:
        super().__init__()
        if name not in REDUCERS:
            raise InputError(f"reduce: found {name!r}; {did_you_mean(name, REDUCERS)}")
        if channel_dim not in (None, 1, -1):
            raise InputError(f"channel_dim: found {channel_dim}, allowed: 1, -1 or None")
        if not 0 <= length_power <= 1:
            raise InputError(f"length_power: found {length_power}, allowed: 0 to 1")
        self.name = name
        self.channel_dim = -1 if name == "tokens" else channel_dim
        self.width = width
        self.length_power = length_power
        self.pick = pick

    def forward(self, activation: Tensor) -> Tensor:
        """(B, ...) -> (B, D), float32 or float64."""
        places = self._channels_then_places(activation)
        # At a single place every reducer is the activation itself.
        vector = REDUCERS[self.name](places) if places.ndim == 3 else places
        if self.length_power == 1:
            return vector
        length = torch.linalg.vector_norm(vector, dim=1, keepdim=True).clamp_min(SHORTEST)
        scaled: Tensor = vector * length.pow(self.length_power - 1)
        return scaled

    def _channels_then_places(self, x: Tensor) -> Tensor:
        """Any activation as (B, C, S), or (B, C) where it has a single place."""
        if x.ndim < 2 or not x.is_floating_point():
            raise InputError(
                f"activation: found {x.dtype} of shape {tuple(x.shape)}, "
                "allowed: floating point (B, C), (B, C, ...) or (B, ..., C)"
            )
        if x.dtype in (torch.float16, torch.bfloat16):
            x = x.float()
        if x.ndim == 2:
            return x
        return x.flatten(1, -2).transpose(1, 2) if self._channels_last(x) else x.flatten(2)

    def _channels_last(self, x: Tensor) -> bool:
        if self.channel_dim is not None:
            return self.channel_dim == -1
        first, last = x.shape[1] == self.width, x.shape[-1] == self.width
        return last if first != last else x.ndim == 3

    def extra_repr(self) -> str:
        """What `print(reducer)` adds."""
        return ", ".join(f"{key}={value}" for key, value in self.spec().items())

    def spec(self) -> dict[str, Any]:
        """The arguments of the constructor, as plain JSON values."""
        return {
            "name": self.name,
            "channel_dim": self.channel_dim,
            "width": self.width,
            "length_power": self.length_power,
            "pick": self.pick,
        }
