"""Batch normalisation over the whole batch, of which each rank of a job has a part."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from nervecode.errors import InputError
from nervecode.lab.ranks.job import current

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def normalise_together(model: nn.Module) -> None:
    """Let every batch normalisation of a model see the batches of all ranks.

    The model keeps its modules, its hooks and the keys of its state dict.

    Raises:
        InputError: a kind of batch normalisation that cannot be told to.
    """
    for name, module in model.named_modules() if current().world > 1 else ():
        if type(module) in KINDS:
            # The class alone changes: PyTorch's own SyncBatchNorm refuses a CPU.
            module.__class__ = _CommonBatchNorm
        elif isinstance(module, _BatchNorm) and not isinstance(module, _CommonBatchNorm):
            raise InputError(
                f"model: layer {name!r} is a {type(module).__name__}, which sees a part of each "
                "batch alone; allowed with several processes: torch.nn.BatchNorm1d, 2d and 3d"
            )


class _CommonBatchNorm(_BatchNorm):
    def forward(self, x: Tensor) -> Tensor:
        """(B, C, ...) normalised; in training by the statistics of the parts of all ranks."""
        if not self.training:
            return super().forward(x)
        wide = x.float() if x.itemsize < 4 else x
        out, count, mean, variance = _Normalise.apply(wide, self.weight, self.bias, self.eps)
        self._follow(count, mean, variance)
        normalised: Tensor = out.to(x.dtype)
        return normalised

    def _follow(self, count: Tensor, mean: Tensor, variance: Tensor) -> None:
        """Update the running statistics, as PyTorch does."""
        if self.running_mean is None or self.running_var is None:
            return
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1 / self.num_batches_tracked if self.momentum is None else self.momentum
        unbiased = variance * count / (count - 1).clamp_min(1)
        self.running_mean += share * (mean - self.running_mean)
        self.running_var += share * (unbiased - self.running_var)

    def _check_input_dim(self, x: Tensor) -> None:
        """Any shape that the class it stands for took."""


class _Normalise(torch.autograd.Function):
    """x -> output, count (), mean (C,) and variance (C,) over all ranks.

    One exchange of two numbers a channel each way: a message costs more than what it carries.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        count, mean, variance = _statistics(x)
        ctx.save_for_backward(x, weight, count, mean, (variance + eps).rsqrt())
        ctx.mark_non_differentiable(count, mean, variance)
        out = F.batch_norm(x, mean, variance, weight, bias, training=False, eps=eps)
        return out, count, mean, variance

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor, *unused: Tensor
    ) -> tuple[Tensor, Tensor | None, Tensor | None, None]:
        x, weight, count, mean, scale = ctx.saved_tensors
        dims, shape = _dims(x), _shape(x)
        centred = x - mean.view(shape)
        own = torch.stack([gradient.sum(dims), (gradient * centred).sum(dims)])
        # Each rank's parameters count its own part; their gradients are averaged with all others.
        to_weight, to_bias = own[1] * scale, own[0]
        to_mean, along = current().rows(own).sum(0) / count
        if weight is not None:
            gradient = gradient * weight.view(shape)
            to_mean, along = to_mean * weight, along * weight
        slope = (along * scale.square()).view(shape)
        to_x = (gradient - to_mean.view(shape)).addcmul(centred, slope, value=-1)
        needs = ctx.needs_input_grad
        return (
            to_x * scale.view(shape),
            to_weight if needs[1] else None,
            to_bias if needs[2] else None,
            None,
        )


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (), mean (C,) and variance (C,) over all ranks, by Chan's pairwise formula."""
    count = x.numel() // x.shape[1]
    mean = x.sum(_dims(x)) / max(count, 1)
    squares = (x - mean.view(_shape(x))).square().sum(_dims(x))
    own = torch.cat([torch.full_like(mean[:1], count), mean, squares])
    rows = current().rows(own)
    counts, means, parts = rows.split([1, len(mean), len(mean)], dim=1)  # (world, 1 or C)
    total = counts.sum()
    common = (counts * means).sum(0) / total
    deviations = parts.sum(0) + (counts * (means - common).square()).sum(0)
    return total, common, deviations / total


def _dims(x: Tensor) -> list[int]:
    return [d for d in range(x.ndim) if d != 1]


def _shape(x: Tensor) -> list[int]:
    return [1, -1, *[1] * (x.ndim - 2)]
