"""Ragged activations: packed, nested and jagged sequences as padded tensors with a mask."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pad_packed_sequence

from nervecode.errors import InputError


def padded(activation: Any) -> tuple[Tensor, Tensor | None]:
    """An activation as a dense tensor, and where it was ragged (B, T) which positions are real.

    `PackedSequence`, nested and jagged tensors become (B, T, C), padded with zeros.

    Raises:
        InputError: a sparse tensor, or a ragged one that is not (B, T, C).
    """
    if isinstance(activation, PackedSequence):
        dense, lengths = pad_packed_sequence(activation, batch_first=True)
        steps = torch.arange(dense.shape[1], device=dense.device)
        return dense, steps < lengths.to(dense.device).unsqueeze(1)
    x: Tensor = activation
    if x.is_nested:
        if x.ndim != 3:
            raise InputError(f"activation: found nested in {x.ndim} dimensions, allowed: (B, T, C)")
        real = torch.nested.to_padded_tensor(torch.ones_like(x), 0.0)[..., 0] > 0
        return torch.nested.to_padded_tensor(x, 0.0), real
    if x.layout != torch.strided:
        raise InputError(f"activation: found a {x.layout} tensor, allowed: a dense one")
    return x, None
