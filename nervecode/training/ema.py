"""EmaCodebookUpdater: centres that follow their data, without a gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from nervecode.core import Codebook, SoftCode
from nervecode.errors import InputError


class EmaCodebookUpdater:
    """Moves each centre to the running mean of the vectors that it is the nearest to.

    N_k <- decay N_k + (1 - decay) n_k and m_k <- decay m_k + (1 - decay) sum of z; the centre is
    m_k / N_k. Van den Oord, Vinyals and Kavukcuoglu 2017, appendix A.1,
    https://arxiv.org/abs/1711.00937.

    Args:
        codebook: the codebook to update; its centres change in place.
        decay: how much of the past is kept, in [0, 1).
        revive_below: a centre whose running count falls below this is dead, and is put on a vector
            of the batch, drawn at random; 0 leaves dead centres where they are.
        seed: of the draw.

    Raises:
        InputError: a decay outside [0, 1), or a negative `revive_below`.
    """

    def __init__(
        self, codebook: Codebook, *, decay: float = 0.99, revive_below: float = 0.0, seed: int = 0
    ) -> None:
        if not 0 <= decay < 1:
            raise InputError(f"EmaCodebookUpdater decay: found {decay}, allowed: 0 <= decay < 1")
        if not revive_below >= 0:
            raise InputError(f"revive_below: found {revive_below}, allowed: 0 or more")
        self.codebook = codebook
        self.decay = decay
        self.revive_below = revive_below
        self.random = torch.Generator().manual_seed(seed)
        centres = codebook.centres.detach()
        self.counts = torch.ones(len(centres), dtype=torch.float64, device=centres.device)
        self.sums = centres.double().clone()

    @torch.no_grad()
    def update(self, vectors: Tensor, code: SoftCode | None = None) -> int:
        """Take in a batch.

        Args:
            vectors: (B, D) coded vectors, such as `trace.vector`.
            code: their code, where it is known already.

        Returns:
            How many dead centres were revived.

        Raises:
            InputError: NaN or infinity among the vectors, which would stay in the centres for ever.
        """
        z = vectors.detach()
        if not z.isfinite().all():
            raise InputError("EMA update: the vectors hold NaN or infinity; allowed: finite ones")
        nearest = (code or self.codebook(z)).best_index
        z = z.double()
        ones = torch.ones(len(z), dtype=z.dtype, device=z.device)
        counts = torch.zeros_like(self.counts).index_add(0, nearest, ones)
        sums = torch.zeros_like(self.sums).index_add(0, nearest, z)
        self.counts = self.decay * self.counts + (1 - self.decay) * counts
        self.sums = self.decay * self.sums + (1 - self.decay) * sums
        revived = self._revive(z)
        alive = self.counts > torch.finfo(z.dtype).tiny  # the others stay where they are
        means = self.sums[alive] / self.counts[alive].unsqueeze(1)
        self.codebook.centres.data[alive] = means.to(self.codebook.centres)
        return revived

    def _revive(self, z: Tensor) -> int:
        dead = (self.counts < self.revive_below).nonzero().squeeze(1)
        if len(dead) and len(z):
            chosen = torch.randint(len(z), (len(dead),), generator=self.random).to(z.device)
            self.counts[dead] = 1.0
            self.sums[dead] = z[chosen]
            return len(dead)
        return 0
