"""CodingLinear and CodingConv2d: a layer that carries its own coder."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from nervecode.core import CodingTrace, Reducer, SoftAssignment
from nervecode.layers.coders.learned import LearnedCoder


class _Traced(nn.Module):
    """A layer that codes what it returns, and keeps the trace of its last call.

    It hands the trace to no copy: a trace belongs to a call.
    """

    coder: LearnedCoder
    trace: CodingTrace | None

    def forward(self, input: Tensor) -> Tensor:
        """What the plain layer returns, unchanged."""
        output: Tensor = super().forward(input)
        self.trace = self.coder(output)
        return output

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "trace": None}


class CodingLinear(_Traced, nn.Linear):
    """`nn.Linear` that codes its output; the output itself is unchanged.

    Args:
        in_features: as in `nn.Linear`.
        out_features: as in `nn.Linear`.
        num_codes: K of the codebook.
        coding_dim: width of the learned projection.
        assignment: temperature and weights of the surprise.
        **kwargs: further arguments of `nn.Linear`.

    Attributes:
        trace: the CodingTrace of the last forward, None before.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        num_codes: int = 16,
        coding_dim: int = 8,
        assignment: SoftAssignment | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_features, out_features, **kwargs)
        self.coder = LearnedCoder(
            out_features,
            num_codes=num_codes,
            coding_dim=coding_dim,
            assignment=assignment,
            reducer=Reducer("mean", channel_dim=-1),
        ).to(self.weight.device)
        self.trace = None


class CodingConv2d(_Traced, nn.Conv2d):
    """`nn.Conv2d` that codes its output; the output itself is unchanged.

    Args:
        in_channels: as in `nn.Conv2d`.
        out_channels: as in `nn.Conv2d`.
        kernel_size: as in `nn.Conv2d`.
        num_codes: K of the codebook.
        coding_dim: width of the learned projection.
        assignment: temperature and weights of the surprise.
        **kwargs: further arguments of `nn.Conv2d`.

    Attributes:
        trace: the CodingTrace of the last forward, None before.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        *,
        num_codes: int = 16,
        coding_dim: int = 8,
        assignment: SoftAssignment | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, **kwargs)
        self.coder = LearnedCoder(
            out_channels,
            num_codes=num_codes,
            coding_dim=coding_dim,
            assignment=assignment,
            reducer=Reducer("mean", channel_dim=1),
        ).to(self.weight.device)
        self.trace = None
