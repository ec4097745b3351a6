"""Codebook: centres, log priors and a precision metric; SoftAssignment: how they are read."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nervecode.core.code import SoftCode
from nervecode.errors import InputError, check_count

METRICS = ("identity", "diagonal", "full")


@dataclass(frozen=True)
class SoftAssignment:
    """Soft assignment with a temperature, and the weighted surprise of recipe `v0_1_1`.

    p = softmax(log pi - d2 / T); T = 2 is the posterior of the Gaussian mixture.
    S = beta_length L + beta_entropy H + beta_distance log1p(d2_k*), nats.

    Raises:
        InputError: a temperature that is not a positive number, or a weight that is not finite.
    """

    temperature: float = 1.0
    beta_length: float = 1.0
    beta_entropy: float = 1.0
    beta_distance: float = 0.0

    def __post_init__(self) -> None:
        """Check the numbers once, where they are given."""
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise InputError(f"temperature: found {self.temperature}, allowed: a number above 0")
        for name in ("beta_length", "beta_entropy", "beta_distance"):
            if not math.isfinite(getattr(self, name)):
                raise InputError(f"{name}: found {getattr(self, name)}, allowed: a finite number")

    def log_probs(self, squared_distances: Tensor, log_priors: Tensor) -> Tensor:
        """(B, K) log of the soft assignment from (B, K) distances and (K,) log priors, nats."""
        return torch.log_softmax(log_priors - squared_distances / self.temperature, dim=1)

    def surprise(self, code: SoftCode) -> Tensor:
        """(B,) the weighted surprise S of a code, nats."""
        total = self.beta_length * code.best_length + self.beta_entropy * code.entropy
        if self.beta_distance:
            total = total + self.beta_distance * torch.log1p(code.best_distance)
        return total


MIXTURE = SoftAssignment(temperature=2.0)
"""The assignment under which a code is the posterior of its Gaussian mixture."""


class Codebook(nn.Module):
    """K centres in R^D with log priors and a precision metric Lambda = W W'.

    The metric is kept as its factor W: nothing for `identity`, (D,) for `diagonal`, (D, D) for
    `full`, so that d2_k = |W'(z - c_k)|^2 is never negative.

    Args:
        num_codes: K, at least 1.
        dim: D, at least 1.
        metric: `identity`, `diagonal` or `full`.
        learnable: whether the centres are a parameter (learned by gradient) or a buffer.
        generator: the source of the initial centres, standard normal.

    Raises:
        InputError: K or D below 1, or an unknown metric.
    """

    centres: Tensor
    log_priors: Tensor
    factor: Tensor
    log_norm: Tensor

    def __init__(
        self,
        num_codes: int,
        dim: int,
        *,
        metric: str = "identity",
        learnable: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        check_count("Codebook num_codes", num_codes)
        check_count("Codebook dim", dim)
        if metric not in METRICS:
            raise InputError(f"Codebook metric: found {metric!r}, allowed: {', '.join(METRICS)}")
        self.metric = metric
        centres = torch.randn(num_codes, dim, generator=generator)
        if learnable:
            self.centres = nn.Parameter(centres)
        else:
            self.register_buffer("centres", centres)
        self.register_buffer("log_priors", torch.full((num_codes,), -math.log(num_codes)))
        self.register_buffer("factor", _unit_factor(metric, dim))
        self.register_buffer("log_norm", torch.tensor(-0.5 * dim * math.log(2 * math.pi)))

    @classmethod
    def from_centres(
        cls,
        centres: Tensor,
        *,
        log_priors: Tensor | None = None,
        factor: Tensor | None = None,
        learnable: bool = False,
    ) -> Codebook:
        """A codebook with given centres (K, D), log priors (K,) and factor W: None, (D,) or (D, D).

        The log priors are normalised. Computation stays in the dtype of the centres.

        Raises:
            InputError: a tensor of the wrong shape, or one that is not finite.
        """
        k, dim = _shape("centres", centres)
        metric = "identity" if factor is None else ("diagonal" if factor.ndim == 1 else "full")
        book = cls(k, dim, metric=metric, learnable=learnable).to(centres)
        book.centres.data.copy_(centres)
        # Again in the dtype of the centres: these constants were made in float32.
        book.log_priors.fill_(-math.log(k))
        book.log_norm.fill_(-0.5 * dim * math.log(2 * math.pi))
        if log_priors is not None:
            if log_priors.shape != (k,):
                raise InputError(f"log_priors: found {tuple(log_priors.shape)}, allowed: ({k},)")
            if not log_priors.logsumexp(0).isfinite():
                raise InputError("log_priors: found NaN, +inf or -inf alone, allowed: log weights")
            book.log_priors.copy_(torch.log_softmax(log_priors.to(centres), dim=0))
        if factor is not None:
            if factor.shape not in {(dim,), (dim, dim)}:
                raise InputError(
                    f"factor: found {tuple(factor.shape)}, allowed: ({dim},) or ({dim}, {dim})"
                )
            volume = _log_volume(factor)
            if not volume.isfinite():
                raise InputError("factor: found NaN, infinity or a singular one, allowed: |W| > 0")
            book.factor.copy_(factor)
            book.log_norm += volume.to(book.log_norm)
        return book

    @property
    def num_codes(self) -> int:
        """K, the number of centres."""
        return self.centres.shape[0]

    @property
    def dim(self) -> int:
        """D, the width of a centre."""
        return self.centres.shape[1]

    def squared_distances(self, z: Tensor) -> Tensor:
        """(B, K) d2 from (B, D) vectors, under the metric."""
        if z.ndim != 2 or z.shape[1] != self.dim:
            raise InputError(f"vectors: found {tuple(z.shape)}, allowed: (B, {self.dim})")
        z, c = self._whiten(z), self._whiten(self.centres)
        # |z|^2 - 2 z.c + |c|^2 is one matrix product; the clamp takes off its rounding.
        d2 = z.square().sum(1, keepdim=True) - 2 * z @ c.T + c.square().sum(1)
        return d2.clamp_min(0)

    def forward(self, z: Tensor, assignment: SoftAssignment = MIXTURE) -> SoftCode:
        """Code (B, D) vectors; by default as the posterior of the Gaussian mixture."""
        d2 = self.squared_distances(z)
        log_probs = assignment.log_probs(d2, self.log_priors)
        return SoftCode(log_probs, d2, self.log_priors, self.log_norm)

    def _whiten(self, x: Tensor) -> Tensor:
        if self.metric == "identity":
            return x
        return x * self.factor if self.metric == "diagonal" else x @ self.factor

    def extra_repr(self) -> str:
        """What `print(codebook)` adds."""
        return f"num_codes={self.num_codes}, dim={self.dim}, metric={self.metric}"


def _unit_factor(metric: str, dim: int) -> Tensor:
    shapes = {"identity": torch.ones(0), "diagonal": torch.ones(dim)}
    return shapes[metric] if metric in shapes else torch.eye(dim)


def _log_volume(factor: Tensor) -> Tensor:
    """log|det W|, nats."""
    if factor.ndim == 1:
        return factor.abs().log().sum()
    volume: Tensor = torch.linalg.slogdet(factor.double()).logabsdet
    return volume


def _shape(name: str, matrix: Tensor) -> tuple[int, int]:
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise InputError(
            f"{name}: found {tuple(matrix.shape)}, allowed: (K, D), K and D at least 1"
        )
    if not matrix.isfinite().all():
        raise InputError(f"{name}: found NaN or infinity, allowed: finite numbers")
    return matrix.shape[0], matrix.shape[1]
