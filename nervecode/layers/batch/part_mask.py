"""What a part of a model is told of padding by an argument that may be a mask of something else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from nervecode.core import BatchShape
from nervecode.layers.batch.arguments import MASKS, Arguments


def fitting_mask_of(
    part: Arguments,
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    now: BatchShape,
    *,
    texts_only: bool = False,
) -> BatchShape | None:
    """What is known of a part's batch, where its mask (B, T) or (B, 1, 1, T) is one of positions.

    It is where the part is given as many: ids (B, T) or states (B, T, D). It may be none where the
    part is given numbers (B, T), of which layers may have fewer places, and where B is T, since a
    causal mask (T, T) fits then too. One that is exactly causal, whether 1 allows or forbids, is
    taken for no padding; nothing waits for the device to tell.

    Args:
        part: the part.
        args: what it is called with.
        kwargs: and by name.
        now: what was known before.
        texts_only: believe it of ids alone.

    Returns:
        What is known of its batch; None where the part is not told of padding.
    """
    real = part.mask(args, kwargs)
    if real is not None and real.ndim == 4 and real.shape[1] == real.shape[2] == 1:
        real = real[:, 0, 0]
    if real is None or real.ndim != 2:
        return None
    if is_of_pieces(real, now):
        return None
    named = part.by_name(args, kwargs)
    given = [x for name, x in named.items() if name not in MASKS and isinstance(x, Tensor)]
    given = [x for x in given if _has_positions_of(real, x, part.sequence_first)]
    texts = [x for x in given if x.ndim == 2 and not x.is_floating_point()]
    states = [x for x in given if x.ndim > 2]
    if not texts and (texts_only or not given):
        return None
    square = _same(*real.shape)
    if square:
        real = _unless_causal(real, now.mask)
    return now._replace(mask=real, tentative=square or not (texts or states))


def is_of_pieces(mask: Tensor, batch: BatchShape) -> bool:
    """Whether a mask is of other inputs than the batch, as of the sentences of each.

    Layers that read these are refused; the others have other positions.
    """
    rows = mask.shape[0]
    return bool(batch.sizes) and rows != 1 and not any(_same(rows, size) for size in batch.sizes)


def _has_positions_of(mask: Tensor, x: Tensor, sequence_first: bool) -> bool:
    """Whether a tensor begins with the dimensions of a mask (B, T), or with (T, B)."""
    if x.is_nested or x.ndim < 2 or x.dtype == torch.bool:
        return False
    shapes = [x.shape[:2], x.shape[:2][::-1]][: 1 + sequence_first]
    return any(all(map(_same, mask.shape, shape)) for shape in shapes)


def _same(size: int, other: int) -> bool:
    """Whether two sizes are equal; one that a graph leaves open is none of its constants."""
    return isinstance(size, torch.SymInt) is isinstance(other, torch.SymInt) and size == other


def _unless_causal(real: Tensor, before: Tensor | None) -> Tensor:
    """A mask (T, T), or what was known before where it is that of causal attention."""
    lower = torch.ones_like(real).tril()
    causal = (real == lower).all() | (real != lower).all()
    known = before if before is not None and before.shape == real.shape else torch.ones_like(real)
    return torch.where(causal, known, real)
