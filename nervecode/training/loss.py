"""CodingLoss: what a model pays for activations that its codebooks code badly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from nervecode.core import CodingTrace
from nervecode.errors import InputError, NotReadyError


class CodingLoss(nn.Module):
    """assign * L + commit * log1p(d2 of the nearest centre), mean over inputs and layers.

    Args:
        assign_weight: weight of the code length L, nats; it separates the centres.
        commit_weight: weight of the distance term, which pulls activations and centres together.

    Raises:
        InputError: a negative weight.
    """

    def __init__(self, assign_weight: float = 1.0, commit_weight: float = 0.25) -> None:
        super().__init__()
        for name, weight in (("assign_weight", assign_weight), ("commit_weight", commit_weight)):
            if not weight >= 0:
                raise InputError(f"CodingLoss {name}: found {weight}, allowed: 0 or more")
        self.assign_weight = assign_weight
        self.commit_weight = commit_weight

    def forward(self, traces: Mapping[str, CodingTrace]) -> Tensor:
        """() the loss of one forward's traces, differentiable.

        Raises:
            NotReadyError: no traces (coding disabled, or no forward yet).
        """
        if not traces:
            raise NotReadyError("CodingLoss: no trace; run a forward with coding enabled first")
        return torch.stack([self._of_layer(trace) for trace in traces.values()]).mean()

    def _of_layer(self, trace: CodingTrace) -> Tensor:
        code = trace.code
        commit = torch.log1p(code.best_distance)
        return (self.assign_weight * code.best_length + self.commit_weight * commit).mean()
