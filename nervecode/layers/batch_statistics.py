"""Batch statistics: whether an input's answer depends on the others of its batch."""

from __future__ import annotations

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def remark_on_statistics(model: nn.Module) -> str:
    """Which layer normalises by its batch in evaluation too, in words; empty where none does."""
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.running_mean is None:
            layer = f"layer {name!r}" if name else "the model"
            return (
                f"{layer} keeps no running statistics and normalises by those of each "
                "batch: what the model returns for an input, and so its p-value, depends on the "
                f"others of its batch; {type(module).__name__} with track_running_stats=True does "
                "not"
            )
    return ""
