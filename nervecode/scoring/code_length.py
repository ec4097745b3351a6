"""The default aggregation of recipe `bits`: code lengths and regret, standardised."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nervecode.core import CodingTrace
from nervecode.scoring.combine import zscore


@dataclass(frozen=True)
class CodeLengthScore:
    """mean over layers of z(B_l), plus z(sum over layers of R_l).

    B_l is the code length of layer l, R_l its regret, both in bits, and z() standardises on the
    ID calibration split. B finds inputs far from everything, R inputs between the classes.

    Attributes:
        bits: (n, L) code lengths of the ID calibration inputs.
        regret: (n, L) their regrets.
    """

    bits: Tensor
    regret: Tensor

    def __call__(self, bits: Tensor, regret: Tensor) -> Tensor:
        """(N,) scores from (N, L) code lengths and regrets; float64."""
        lengths = zscore(self.bits, bits).mean(1)
        return lengths + zscore(self.regret.sum(1), regret.sum(1))


def surprise_and_regret(trace: CodingTrace) -> Tensor:
    """(B, 2) surprise and regret of a trace, or (B, 1) where there is no regret."""
    parts = [trace.surprise] if trace.regret is None else [trace.surprise, trace.regret]
    return torch.stack([part.detach() for part in parts], dim=1)
