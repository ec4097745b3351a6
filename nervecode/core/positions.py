"""Positions: a seeded sample of the places of each input."""

from __future__ import annotations

import torch
from torch import Tensor


class PositionSample:
    """Draws some places of each input at random, padding left out; the same in every run.

    Args:
        number: of places of an input, at most.
        seed: of the draw.
    """

    def __init__(self, number: int, *, seed: int = 0) -> None:
        self.number = number
        self._generator = torch.Generator("cpu").manual_seed(seed)

    def draw(self, inputs: int, places: int, real: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(n,) inputs and (n,) their places.

        Args:
            inputs: B.
            places: S, of each input.
            real: (B, S) which of them may be drawn; None for all.
        """
        order = torch.rand(inputs, places, generator=self._generator, device="cpu")
        if real is not None:
            order = order.masked_fill(~real.cpu(), torch.inf)
        drawn = order.sort(dim=1)
        kept = drawn.values[:, : self.number].isfinite()
        rows = torch.arange(inputs, device="cpu").unsqueeze(1).expand_as(kept)
        return rows[kept], drawn.indices[:, : self.number][kept]
