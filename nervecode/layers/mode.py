"""Mode: which modules do something else in training than in evaluation."""

from __future__ import annotations

from functools import cache
from inspect import isfunction

from torch import nn

TRANSFORMERS = (
    nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
)  # fmt: skip


def heeds_mode(module: nn.Module) -> bool:
    """Whether a module does something else in training: its code asks, and it has reason to."""
    if isinstance(module, TRANSFORMERS):  # which ask for the sake of speed; their parts count
        return False
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats
    return _asks_for_mode(type(module).__mro__)


@cache
def _asks_for_mode(lineage: tuple[type, ...]) -> bool:
    """Whether the code of a kind of module, given by its classes, reads `training`."""
    own = lineage[: lineage.index(nn.Module)]
    functions = [value for cls in own for value in vars(cls).values() if isfunction(value)]
    return any("training" in function.__code__.co_names for function in functions)
