"""Reducers: an activation becomes one vector per input, (B, ...) -> (B, D)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core.call import UNKNOWN_SHAPE, BatchShape
from nervecode.core.over_places import REDUCERS
from nervecode.core.ragged import padded
from nervecode.errors import InputError, did_you_mean

LENGTH_POWER = 0.5  # of fitted codes
SHORTEST = 1e-12  # what is shorter counts as this long, so that a dead layer gives 0


class Reducer(nn.Module):
    """Turns a layer's activation into one float vector per input.

    Activations: (B, C), maps (B, C, H, W), tokens (B, T, C) or (B, H, W, C), sequences (T, B, C),
    and packed, nested or jagged sequences. The sums run in float32 at least, whatever the dtype of
    the activation.

    Args:
        name: `mean`, `max`, `mean_std`; with channels last `tokens`, the mean, and `last_token`.
        channel_dim: where the channels are, 1 or -1, in a batch-first activation. None finds the
            dimension of size `width`; where that does not decide, 3-D activations are tokens and
            others are maps. `settle` makes it the same for all calls.
        width: the number of channels, where it is known.
        length_power: p from 0 to 1; a vector keeps its direction, and its L2 norm is raised to p.
            1 leaves it as it is, 0 scales it to unit norm.
        pick: which part of a module's output is the activation: an index of a tuple, a key of a
            mapping; None takes the first tensor.
        batch_dim: where the inputs are, 0 or 1. None: the one of the two that is as large as the
            batch, where only one is.
        ndim: the dimensions of an activation of a whole batch, where they are known.
        positions: keep one vector for each place, as it is there, whatever `name` says.
        least_ndim: the fewest dimensions that an activation of a whole batch had in the fit.

    Raises:
        InputError: an unknown name, a power out of range, or an activation with fewer than two
            dimensions, others than `ndim`, fewer than `least_ndim`, or another batch than the call.
    """

    def __init__(
        self,
        name: str = "mean",
        *,
        channel_dim: int | None = None,
        width: int | None = None,
        length_power: float = 1.0,
        pick: str | int | None = None,
        batch_dim: int | None = 0,
        ndim: int | None = None,
        positions: bool = False,
        least_ndim: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(name, str) or name not in REDUCERS:
            raise InputError(f"reduce: found {name!r}; {did_you_mean(name, REDUCERS)}")
        if channel_dim not in (None, 1, -1):
            raise InputError(f"channel_dim: found {channel_dim}, allowed: 1, -1 or None")
        if batch_dim not in (None, 0, 1):
            raise InputError(f"batch_dim: found {batch_dim}, allowed: 0, 1 or None")
        if not (isinstance(length_power, (int, float)) and 0 <= length_power <= 1):
            raise InputError(f"length_power: found {length_power!r}, allowed: 0 to 1")
        self.name = name
        self.channel_dim = -1 if name in ("tokens", "last_token") else channel_dim
        self.assumed_dim: int | None = None  # of channels, where activations left it open
        self.least_ndim = least_ndim
        self.seen_ndims = set[int]()
        self.width = width
        self.length_power = length_power
        self.pick = pick
        self.batch_dim = batch_dim
        self.ndim = ndim
        self.positions = positions

    def forward(self, activation: Any, batch: BatchShape = UNKNOWN_SHAPE) -> Tensor:
        """(B, ...) or (T, B, C) -> (B, D), float32 or float64; (B, ..., C) by position.

        By position, the rows of (N, C) may be anything, such as the boxes of all inputs.

        Args:
            activation: a tensor or a `PackedSequence`.
            batch: what is known of the call that it belongs to.
        """
        x, real = padded(activation)
        ragged = real is not None
        x = _floating(x) if ragged else self._batch_first(_floating(x), batch)
        rows = self.positions and x.ndim == 2
        if batch.sizes and x.shape[0] not in batch.sizes and not rows:
            raise InputError(
                f"activation: found {x.shape[0]} rows, shape {tuple(x.shape)}, "
                f"in a call of {batch} inputs"
            )
        last = ragged or self._channels_last(x)
        if self.positions:
            x = padded_as(batch.mask, x) if ragged else x
            vector = x if last else x.movedim(1, -1)
            vector = vector.clone() if self.length_power == 1 else vector
        else:
            if batch.mask is not None and not ragged:
                places = x.shape[1:-1] if last else x.shape[2:]
                real = fitting_mask(batch.mask, (x.shape[0], *places), batch.tentative)
            vector = self._reduce(x, last, real)
        if self.length_power == 1:
            return vector
        length = torch.linalg.vector_norm(vector, dim=-1, keepdim=True)
        scale = length.clamp_min(SHORTEST).pow(self.length_power - 1)
        # A length that overflows would make its vector 0, which looks like any other: it is NaN. It
        # is compared before it is clamped, since ONNX's Clip makes infinity the largest float.
        scaled: Tensor = vector * torch.where(length < math.inf, scale, math.nan)
        return scaled

    def see(self, activation: Any) -> None:
        """Note the dimensions of an activation of a whole batch: `settle_all` is to decide."""
        if isinstance(activation, Tensor) and not activation.is_nested:
            self.seen_ndims.add(activation.ndim)

    def ndims_seen(self) -> Tensor:
        """(n,) the numbers of dimensions that were noted, as a fit keeps them."""
        return torch.tensor(sorted(self.seen_ndims), dtype=torch.int64, device="cpu")

    def settle_all(self) -> None:
        """Take what all activations of a fit had, or were assumed to have, as what there is.

        An input without its batch has a dimension less, and would pass for a batch of its steps.
        """
        self.channel_dim = self.channel_dim or self.assumed_dim
        self.least_ndim = min(self.seen_ndims, default=None)

    def settle(self, activation: Any, batch: BatchShape = UNKNOWN_SHAPE) -> None:
        """Look for the channels, from now on, where this activation has them: `fit` is to decide.

        One with as many places as channels is read as `forward` does and leaves it open.

        Raises:
            InputError: the channels are elsewhere than they were assumed to be.
        """
        if self.channel_dim is not None or not isinstance(activation, Tensor):
            return
        if activation.is_nested or activation.ndim < 3:
            return
        x = self._batch_first(activation, batch)
        fitting = [dim for dim in (1, -1) if x.shape[dim] == self.width]
        if len(fitting) > 1:
            self.assumed_dim = -1 if self._channels_last(x) else 1
        elif fitting:
            if self.assumed_dim not in (None, fitting[0]):
                raise InputError(
                    f"activation: found {self.width} channels in dimension {fitting[0]} of shape "
                    f"{tuple(x.shape)}, where an earlier one with as many places as channels was "
                    f"read with them in dimension {self.assumed_dim}; allowed: a part of the layer "
                    "that says where they are, as a convolution does, or such a batch later"
                )
            self.channel_dim = fitting[0]

    def both(self, activation: Tensor) -> tuple[Tensor, Tensor]:
        """(B, D) of an activation read batch first, and (T, D) or so of it sequence first."""
        pair = [Reducer(**{**self.spec(), "batch_dim": dim})(activation) for dim in (0, 1)]
        return pair[0], pair[1]

    def _reduce(self, x: Tensor, channels_last: bool, real: Tensor | None) -> Tensor:
        if x.ndim == 2:  # at a single place every reducer is the activation itself
            return x
        places = x.flatten(1, -2).transpose(1, 2) if channels_last else x.flatten(2)
        vector = REDUCERS[self.name](places, real)
        if x.ndim == 3 and x.shape[1] == 1 and self.name == "mean_std" and channels_last:
            # A sequence of one step has no deviation; its vector is as wide as that of any other.
            return torch.cat([vector, torch.zeros_like(vector)], dim=1)
        return vector

    def _batch_first(self, x: Tensor, batch: BatchShape) -> Tensor:
        if self.ndim not in (None, x.ndim):
            raise InputError(
                f"activation: found shape {tuple(x.shape)}, allowed: the {self.ndim} dimensions "
                "that a batch of inputs gives"
            )
        if self.least_ndim is not None and x.ndim < self.least_ndim:
            raise InputError(
                f"activation: found shape {tuple(x.shape)}, allowed: {self.least_ndim} dimensions "
                "at least, as every batch of the fit had"
            )
        if x.ndim == 2 or self.batch_dim == 0:
            return x
        dim = batch.batch_dim(x.shape) if self.batch_dim is None else 1
        if dim is None:
            raise InputError(
                f"activation: found shape {tuple(x.shape)}, whose first two dimensions do not tell "
                f"which of them is the batch of {batch}"
            )
        return x.transpose(0, 1) if dim == 1 else x

    def _channels_last(self, x: Tensor) -> bool:
        if self.channel_dim is not None:
            return self.channel_dim == -1
        first, last = x.shape[1] == self.width, x.shape[-1] == self.width
        # Not `first != last`: a compiler with symbolic sizes cannot compare two of its truths.
        if first and not last:
            return False
        return (last and not first) or x.ndim == 3

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
            "batch_dim": self.batch_dim,
            "ndim": self.ndim,
            "positions": self.positions,
            "least_ndim": self.least_ndim,
        }


def _floating(x: Tensor) -> Tensor:
    """At least in float32."""
    if x.is_meta:
        raise InputError("activation: found a tensor on the meta device, which has no values")
    if x.ndim < 2 or not x.is_floating_point():
        raise InputError(
            f"activation: found {x.dtype} of shape {tuple(x.shape)}, "
            "allowed: floating point (B, C), (B, C, ...) or (B, ..., C)"
        )
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def padded_as(mask: Tensor | None, x: Tensor) -> Tensor:
    """(B, T, C) out of a ragged activation, with as many steps as a mask (B, T) has.

    Raises:
        InputError: there is no such mask: positions of the call could not be told from padding.
    """
    if mask is None or mask.ndim != 2 or mask.shape[1] < x.shape[1]:
        raise InputError(
            f"activation: found a ragged sequence of {x.shape[1]} steps, allowed by position: "
            "one of which a mask (B, T) tells the padding"
        )
    return nn.functional.pad(x, (0, 0, 0, mask.shape[1] - x.shape[1]))


def fitting_mask(mask: Tensor, shape: tuple[int, ...], tentative: bool = False) -> Tensor | None:
    """(B, S) which of an activation's S places are real; None where it has a single place.

    Args:
        mask: (B, ...) of real positions.
        shape: (B, ...) of the activation, without its channels.
        tentative: None for a mask of another shape too.

    Raises:
        InputError: a mask of another shape.
    """
    if len(shape) == 1 or (tentative and mask.shape != shape):
        return None
    if mask.shape != shape:
        raise InputError(
            f"activation: found positions of shape {tuple(shape)}, "
            f"which a mask of shape {tuple(mask.shape)} does not fit"
        )
    return mask.flatten(1)
