"""Names of weights: those of one implementation of an architecture, in the names of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TypeVar

T = TypeVar("T")

# EfficientNet of efficientnet-pytorch and its kin -> of timm.
OUTSIDE = {
    "_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2",
    "_fc": "classifier",
}  # fmt: skip
SQUEEZE = {"_se_reduce": "se.conv_reduce", "_se_expand": "se.conv_expand"}
SEPARABLE = {
    "_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2",
    **SQUEEZE,
}  # fmt: skip
INVERTED = {
    "_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2",
    "_project_conv": "conv_pwl", "_bn2": "bn3", **SQUEEZE,
}  # fmt: skip
BLOCKS = "_blocks."


def in_timms_names(tensors: Mapping[str, T], names: Iterable[str]) -> dict[str, T]:
    """Weights in timm's names, where they are an EfficientNet's and the network has those names.

    timm counts blocks within their stage, the other implementation counts them through.

    >>> names = ["conv_stem.weight", "blocks.0.0.conv_pw.weight", "blocks.1.0.conv_pw.weight"]
    >>> theirs = {"_conv_stem.weight": 1, "_blocks.0._project_conv.weight": 2,
    ...           "_blocks.1._expand_conv.weight": 3}
    >>> in_timms_names(theirs, names) == dict(zip(names, (1, 2, 3)))
    True
    """
    wanted = list(names)
    if "_conv_stem.weight" not in tensors or "conv_stem.weight" not in wanted:
        return dict(tensors)
    blocks = list(dict.fromkeys(".".join(n.split(".")[:3]) for n in wanted if n[:7] == "blocks."))
    return {_renamed(key, tensors, blocks): tensor for key, tensor in tensors.items()}


def _renamed(key: str, tensors: Mapping[str, T], blocks: list[str]) -> str:
    """One name; what is not known keeps its own, and will be told as a misfit."""
    if not key.startswith(BLOCKS):
        part, _, leaf = key.partition(".")
        return f"{OUTSIDE[part]}.{leaf}" if part in OUTSIDE else key
    _, number, part, leaf = (*key.split(".", 3), "", "")[:4]
    parts = INVERTED if f"{BLOCKS}{number}._expand_conv.weight" in tensors else SEPARABLE
    known = number.isdigit() and int(number) < len(blocks) and part in parts
    return f"{blocks[int(number)]}.{parts[part]}.{leaf}" if known else key
