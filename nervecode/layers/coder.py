"""Coders: reducer + codebooks -> CodingTrace, one for each tapped layer.

`LearnedCoder` is recipe `v0_1_1`: a learned projection and a codebook trained by gradient.
`FittedCoder` is recipe `bits`: class and background codes fitted from streamed moments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.core import (
    ClassMoments,
    Codebook,
    CodingTrace,
    Reducer,
    SoftAssignment,
    fit_codes,
)
from nervecode.errors import InputError


class Coder(nn.Module, ABC):
    """Codes one layer's activations, in float32 at least, outside any autocast."""

    def __init__(self, reducer: Reducer) -> None:
        super().__init__()
        self.reducer = reducer

    def reduce(self, activation: Tensor) -> Tensor:
        """(B, ...) -> (B, D), the vector that is coded."""
        with torch.autocast(activation.device.type, enabled=False):
            vector: Tensor = self.reducer(activation)
            return vector

    def forward(self, activation: Tensor) -> CodingTrace:
        """Code a batch of activations."""
        with torch.autocast(activation.device.type, enabled=False):
            return self.code(self.reducer(activation))

    @abstractmethod
    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Coder:
        """Follow the model to its device, but not below float32: a code needs the precision."""
        coder: Coder = super()._apply(  # type: ignore[no-untyped-call]
            lambda t: _float32_at_least(t, fn(t)), recurse
        )
        return coder

    @abstractmethod
    def spec(self) -> dict[str, Any]:
        """What `coder_from_spec` needs to build an equal coder, as plain JSON values."""


def _float32_at_least(before: Tensor, after: Tensor) -> Tensor:
    halved = after.dtype in (torch.float16, torch.bfloat16)
    return before.to(after.device) if halved else after


class LearnedCoder(Coder):
    """Recipe `v0_1_1`: project to `coding_dim`, assign softly to K learned centres.

    Args:
        in_features: D of the reduced vector; None builds the projection at the first forward.
        num_codes: K.
        coding_dim: width of the learned projection.
        assignment: temperature and the three weights of the surprise.
        reducer: how an activation becomes a vector.
        detach: learn the codes without a gradient into the model.

    The surprise of its trace is in nats, as it was in 0.1.1.
    """

    def __init__(
        self,
        in_features: int | None,
        *,
        num_codes: int = 16,
        coding_dim: int = 8,
        assignment: SoftAssignment | None = None,
        reducer: Reducer | None = None,
        detach: bool = False,
    ) -> None:
        super().__init__(reducer or Reducer("mean"))
        if coding_dim < 1:
            raise InputError(f"coding_dim: found {coding_dim}, allowed: at least 1")
        self.codebook = Codebook(num_codes, coding_dim)
        self.projection: nn.Linear = (
            nn.LazyLinear(coding_dim, bias=False)
            if in_features is None
            else nn.Linear(in_features, coding_dim, bias=False)
        )
        self.assignment = assignment or SoftAssignment()
        self.detach = detach

    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors; gradients reach the projection and the centres.

        Raises:
            InputError: a vector of another width than the projection takes.
        """
        vector = vector.to(self.codebook.centres.dtype)
        if self.detach:
            vector = vector.detach()
        if isinstance(self.projection, nn.LazyLinear):
            self._build_projection(vector)
        if vector.shape[1] != self.projection.in_features:
            raise InputError(
                f"vector: found width {vector.shape[1]}, allowed: {self.projection.in_features}"
            )
        projected = self.projection(vector)
        code = self.codebook(projected, self.assignment)
        return CodingTrace(self.assignment.surprise(code), code, projected)

    def _build_projection(self, vector: Tensor) -> None:
        """Draw the weights; the model's own random numbers stay what they would be."""
        with torch.random.fork_rng([vector.device] if vector.is_cuda else []):
            self.projection(vector)

    def spec(self) -> dict[str, Any]:
        """The arguments of the constructor, as plain JSON values."""
        a = self.assignment
        return {
            "kind": "learned",
            "in_features": self.projection.in_features or None,
            "num_codes": self.codebook.num_codes,
            "coding_dim": self.codebook.dim,
            "assignment": [a.temperature, a.beta_length, a.beta_entropy, a.beta_distance],
            "detach": self.detach,
            "reducer": self.reducer.spec(),
        }


class FittedCoder(Coder):
    """Recipe `bits`: the price of a vector under class codes, and against a background code.

    B(z) = -log2 sum_k pi_k N(z; c_k, W), with one covariance W shared by all classes, and
    R(z) = B(z) - B_background(z), with one Gaussian over all data. Both are codebooks in the
    basis that makes W the identity and the background diagonal (see `core.moments.fit_codes`).

    Args:
        num_codes: K, the number of class centres.
        dim: D of the reduced vector.
        reducer: how an activation becomes a vector; it must be the one that the moments saw.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, num_codes: int, dim: int, *, reducer: Reducer) -> None:
        super().__init__(reducer)
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("basis", torch.eye(dim))
        self.classes = Codebook(num_codes, dim, learnable=False)
        self.background = Codebook(1, dim, metric="diagonal", learnable=False)

    @classmethod
    def from_moments(cls, moments: ClassMoments, *, reducer: Reducer) -> FittedCoder:
        """Fit the codes from streamed moments; kept in float32 for use."""
        fitted = fit_codes(moments)
        coder = cls(*fitted.centres.shape, reducer=reducer)
        coder.mean, coder.basis = fitted.mean.float(), fitted.basis.float()
        coder.classes = Codebook.from_centres(fitted.centres.float(), log_priors=fitted.log_priors)
        coder.background = Codebook.from_centres(
            torch.zeros_like(coder.mean).unsqueeze(0), factor=fitted.background_variance.rsqrt()
        )
        for book in (coder.classes, coder.background):
            book.log_norm += fitted.log_volume  # the price is that of z, not of u
        return coder

    def code(self, vector: Tensor) -> CodingTrace:
        """Code (B, D) reduced vectors, in bits."""
        u = (vector.to(self.basis.dtype) - self.mean) @ self.basis
        code = self.classes(u)
        bits = code.bits
        return CodingTrace(bits, code, vector, regret=bits - self.background(u).bits)

    def spec(self) -> dict[str, Any]:
        """The arguments of the constructor, as plain JSON values."""
        k, dim = self.classes.centres.shape
        return {"kind": "fitted", "num_codes": k, "dim": dim, "reducer": self.reducer.spec()}


def coder_from_spec(spec: dict[str, Any]) -> Coder:
    """An untrained coder of the shape that `Coder.spec` described.

    Raises:
        InputError: a spec of an unknown kind.
    """
    reducer = Reducer(**spec["reducer"])
    if spec["kind"] == "fitted":
        return FittedCoder(spec["num_codes"], spec["dim"], reducer=reducer)
    if spec["kind"] == "learned":
        return LearnedCoder(
            spec["in_features"],
            num_codes=spec["num_codes"],
            coding_dim=spec["coding_dim"],
            assignment=SoftAssignment(*spec["assignment"]),
            reducer=reducer,
            detach=spec["detach"],
        )
    raise InputError(f"coder kind: found {spec['kind']!r}, allowed: fitted, learned")
