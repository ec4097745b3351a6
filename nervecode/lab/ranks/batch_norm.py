"""Batch normalisation over the whole batch, of which each rank of a job has a part."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
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
        shape = [1, -1, *[1] * (x.ndim - 2)]
        count, mean, variance = _statistics(x.float() if x.itemsize < 4 else x)
        self._follow(count, mean.detach(), variance.detach())
        scale = torch.rsqrt(variance + self.eps)
        if self.weight is not None:
            scale = scale * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        return (x * scale.view(shape) + shift.view(shape)).to(x.dtype)

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


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Count (), mean (C,) and variance (C,) over all ranks, by Chan's pairwise formula.

    Each rank's count, mean and sum of squared deviations stand in a row of their own, so that one
    sum over ranks brings them together.
    """
    dims = [d for d in range(x.ndim) if d != 1]
    count = x.numel() // x.shape[1]
    mean = x.sum(dims) / max(count, 1)
    squares = (x - mean.view([1, -1, *[1] * (x.ndim - 2)])).square().sum(dims)
    own = torch.cat([torch.full_like(mean[:1], count), mean, squares])
    job = current()
    places = torch.arange(job.world, device=x.device).unsqueeze(1) == job.rank
    rows: Tensor = _Sum.apply(torch.where(places, own, 0.0))
    counts, means, parts = rows.split([1, len(mean), len(mean)], dim=1)  # (world, 1 or C)
    counts = counts.detach()  # numbers, which have no gradient
    total = counts.sum()
    common = (counts * means).sum(0) / total
    deviations = parts.sum(0) + (counts * (means - common).square()).sum(0)
    return total, common, deviations / total


class _Sum(torch.autograd.Function):
    """The sum over ranks; what any rank makes of it counts in the gradient of all."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        current().tick()
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        dist.all_reduce(total)
        return total
