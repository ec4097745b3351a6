"""Price: what batches of vectors cost under the codes of their layers."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nervecode.core.code import LN2, SoftCode

if TYPE_CHECKING:
    from nervecode.core.gaussian import GaussianCode

KEPT = "_stacked"  # the attribute of a code that `Stacked.of` keeps its numbers in


class Projection(NamedTuple):
    """B vectors, less the mean, as one code sees them.

    Attributes:
        length: (B,) |t|.
        explained: (B,) |V't|.
        tilts: (B, K) t' Lambda (c_k - mean) of the classes, and (B, C) of their codes behind.
    """

    length: Tensor
    explained: Tensor
    tilts: Tensor


class Price(NamedTuple):
    """What B vectors cost under one code.

    Attributes:
        bits: (B,) B(z).
        regret: (B,) R(z), bits.
        code: the mixture of all codes.
    """

    bits: Tensor
    regret: Tensor
    code: SoftCode


class Stacked(NamedTuple):
    """The numbers of L codes of equal sizes, ready for `price`."""

    scales: Tensor  # (L, 2, 1) bits of the squares of `length` and `explained`
    base: Tensor  # (L, T, 1)
    offsets: Tensor  # (L, C, 1)
    log_norm: Tensor  # (L, 1)
    mixing: (
        Tensor | tuple[Tensor, ...]
    )  # (L, E, K) M', whose squares are bits; one each if E differ
    gap: Tensor  # (L, 1) bits

    @classmethod
    def of(cls, codes: Sequence[GaussianCode]) -> Stacked:
        """Those of some codes, kept with the first of them until a number of any changes.

        To stack them anew at each call would take longer than to price a few inputs.
        """
        if torch.compiler.is_compiling():
            return cls._made(codes)
        parts = [code._buffers for code in codes]
        numbers = [part[name] for part in parts for name in _STACKED]
        if any(number is not None and number.is_inference() for number in numbers):
            return cls._made(codes)  # changes of such tensors are not counted
        versions = [0 if number is None else number._version for number in numbers]
        kept = codes[0].__dict__.get(KEPT)
        if kept is not None and kept[1] == versions and all(map(operator.is_, kept[0], numbers)):
            return kept[2]  # type: ignore[no-any-return]
        # Tensors that are made in inference mode could not be used outside of it.
        with torch.inference_mode(False), torch.no_grad():
            stacked = cls._made(codes)
        codes[0].__dict__[KEPT] = numbers, versions, stacked
        return stacked

    @classmethod
    def _made(cls, codes: Sequence[GaussianCode]) -> Stacked:
        named = {name: torch.stack([getattr(code, name) for code in codes]) for name in _ALIKE}
        mixing = [code.saving.mT / math.sqrt(LN2) for code in codes]
        same = len({rows.shape for rows in mixing}) == 1
        scales = torch.stack([named["isotropic"], named["sign"]], dim=1)
        return cls(
            scales.unsqueeze(2) / (2 * LN2),
            named["base"].unsqueeze(2),
            named["offsets"].unsqueeze(2),
            named["log_norm"].unsqueeze(1),
            torch.stack(mixing) if same else tuple(mixing),
            named["gap"].unsqueeze(1) / LN2,
        )


_ALIKE = ("isotropic", "sign", "base", "offsets", "log_norm", "gap")  # of codes of equal sizes
_STACKED = (*_ALIKE, "saving")


def price(codes: Sequence[GaussianCode], projections: Sequence[Projection]) -> list[Price]:
    """Price L batches of equal size under L codes of equal sizes, each operation on all at once.

    The codes are rows and the inputs columns, (L, C, B): PyTorch reduces over rows several times
    as fast as over a short last dimension.
    """
    known = Stacked.of(codes)
    number, classes = codes[0].num_codes, codes[0].num_classes
    lengths = torch.stack([part for one in projections for part in one[:2]])  # (2L, B)
    squares = lengths.view(len(codes), 2, *lengths.shape[1:]).square()
    common = (known.scales * squares).sum(1)  # (L, B) bits, the same for all codes
    tilts = torch.stack([one.tilts.T for one in projections])  # (L, T, B)
    logits = tilts + known.base  # without what is common: no digit is lost to it
    evidence = logits[:, -number:].logsumexp(1)
    believing = evidence if number == classes else logits[:, :classes].logsumexp(1)
    bits = torch.sub(common, evidence + known.log_norm, alpha=1 / LN2)
    saved = _saved(known.mixing, tilts[:, :classes])
    regret = torch.sub(torch.addcmul(known.gap, saved, saved), believing, alpha=1 / LN2)
    batch = _Batch(logits[:, -number:], tilts[:, -number:], common, known.offsets)
    parts = zip(bits.unbind(0), regret.unbind(0), codes, strict=True)
    return [Price(b, r, _Mixture(batch, i, code)) for i, (b, r, code) in enumerate(parts)]


def _saved(mixing: Tensor | tuple[Tensor, ...], tilts: Tensor) -> Tensor:
    """(L, B) |M'y| of the (L, K, B) tilts of classes."""
    if isinstance(mixing, tuple):
        pairs = zip(mixing, tilts.unbind(0), strict=True)
        return torch.stack([torch.linalg.vector_norm(rows @ own, dim=0) for rows, own in pairs])
    saved: Tensor = torch.linalg.vector_norm(torch.bmm(mixing, tilts), dim=1)
    return saved


class _Batch(NamedTuple):
    """What L batches were priced with, for what is asked afterwards."""

    logits: Tensor  # (L, C, B)
    tilts: Tensor  # (L, C, B)
    common: Tensor  # (L, B)
    offsets: Tensor  # (L, C, 1)


class _Mixture(SoftCode):
    """The SoftCode of one of them: what a score does not need is worked out when it is asked for.

    Args:
        batch: what was priced.
        index: which of the L codes this is.
        code: the code itself.
    """

    _batch: _Batch
    _index: int
    _code: GaussianCode

    def __init__(self, batch: _Batch, index: int, code: GaussianCode) -> None:
        for name, value in (("_batch", batch), ("_index", index), ("_code", code)):
            object.__setattr__(self, name, value)  # as a frozen dataclass does

    @property
    def log_priors(self) -> Tensor:
        """(C,) log pi, nats."""
        return self._code.log_priors

    @property
    def log_norm(self) -> Tensor:
        """() nats."""
        return self._code.log_norm

    @property
    def log_probs(self) -> Tensor:
        """(B, C) log p, nats."""
        return self._batch.logits[self._index].log_softmax(dim=0).T

    @property
    def squared_distances(self) -> Tensor:
        """(B, C) d2 under the covariance within codes."""
        _, tilts, common, offsets = (part[self._index] for part in self._batch)
        return torch.add(2 * LN2 * common + offsets, tilts, alpha=-2).clamp_min(0).T
