"""Revive: learned codes that no input was nearest to are put on inputs, and learn anew."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from nervecode.core import Codebook, CodingTrace
from nervecode.layers import WrappedModel
from nervecode.layers.coders.learned import LearnedCoder
from nervecode.layers.reading import coder_of

DRAWN = 256  # inputs that dead codes are put on


def revive(
    wrapped: WrappedModel,
    traces: Mapping[str, CodingTrace],
    used: Mapping[str, Tensor],
    random: torch.Generator,
) -> int:
    """Put every dead code of a signal on the vector of an input.

    Args:
        wrapped: the signal, whose centres change in place.
        traces: layer -> trace of some inputs.
        used: layer -> (K,) how often each code was the nearest.
        random: of the choice of inputs.

    Returns:
        How many codes were dead.
    """
    counts: dict[Codebook, Tensor] = {}
    vectors: dict[Codebook, Tensor] = {}
    for name, trace in traces.items():  # the calls of a repeated layer share a codebook
        coder = coder_of(wrapped.coders, name)
        if isinstance(coder, LearnedCoder) and len(trace.vector):
            codebook = coder.codebook
            counts[codebook] = used[name] + counts.get(codebook, 0)
            vectors[codebook] = trace.vector.detach()
    for codebook, count in counts.items():
        dead = (count == 0).nonzero().squeeze(1)
        chosen = torch.randint(len(vectors[codebook]), (len(dead),), generator=random)
        centres = codebook.centres.data
        centres[dead] = vectors[codebook][chosen.to(centres.device)].to(centres.dtype)
    return sum(int((count == 0).sum()) for count in counts.values())
