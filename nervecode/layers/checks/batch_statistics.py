"""Batch statistics: whether an input's answer depends on the others of its batch."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

DYNAMIC = ("torch.ao.nn.quantized.dynamic", "torch.ao.nn.intrinsic.quantized.dynamic")
SO = "what the model returns for an input, and so its p-value, depends on the others of its batch"


def remark_on_statistics(model: nn.Module) -> str:
    """Which layer computes by its batch in evaluation too, in words; empty where none does."""
    for name, module in model.named_modules():
        layer = f"layer {name!r}" if name else "the model"
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            return (
                f"{layer} keeps no running statistics and normalises by those of each "
                f"batch: {SO}; {type(module).__name__} with track_running_stats=True does not"
            )
        if type(module).__module__.startswith(DYNAMIC):
            return (
                f"{layer} is quantised dynamically, in steps of the range of all its batch: {SO}, "
                "above all beside one that is far from all others; static quantisation does not"
            )
    return ""
