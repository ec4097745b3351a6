"""InputSketch: a bounded sample of the inputs that a model saw, as hashes, to know them again.

Codes are too short for the inputs that fitted them, so that calibrating on the same inputs raises
far more false alarms than asked for. A sketch of the fit's inputs tells whether that happens.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nervecode.layers.guard.hooks import of_this_thread

SIZE = 1 << 14  # hashes that are kept
BLOCK = 1 << 19  # values that are hashed at once, so that the products stay in a cache


class InputSketch:
    """The smallest hashes of all inputs seen, a bottom-k sketch (Cohen and Kaplan 2007).

    What is kept depends on the set of the inputs alone, not on their order or on batches, and the
    sketches of two sets merge into that of their union.

    Args:
        hashes: those of a sketch to go on from.

    Attributes:
        added: how many hashes were added, the same ones too.
    """

    def __init__(self, hashes: Tensor | None = None) -> None:
        self._parts = [] if hashes is None else [hashes]
        self.added = 0

    @property
    def hashes(self) -> Tensor:
        """(n,) int64, different and sorted, n at most `SIZE`; all of them where n is less."""
        joined = torch.cat(
            [torch.empty(0, dtype=torch.int64, device="cpu"), *(p.cpu() for p in self._parts)]
        )
        self._parts = [joined.unique()[:SIZE]]
        return self._parts[0]

    def add(self, hashes: Tensor) -> None:
        """Add inputs by their hashes, or another sketch by its own."""
        self._parts.append(hashes)
        self.added += len(hashes)
        if sum(map(len, self._parts)) > 8 * SIZE:
            _ = self.hashes  # which leaves the smallest alone

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Within the block, the inputs of this thread's calls of the model are added."""

        def see(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            self.add(input_hashes([args, kwargs]))

        with model.register_forward_pre_hook(of_this_thread(see), with_kwargs=True):
            yield

    @property
    def distinct(self) -> int:
        """How many different inputs were seen; beyond `SIZE` an estimate, to about one per cent.

        The share of all hashes that are no larger than the largest kept one tells it (Bar-Yossef
        et al. 2002, https://doi.org/10.1007/3-540-45726-7_1).
        """
        hashes = self.hashes
        if len(hashes) < SIZE:
            return len(hashes)
        share = float(hashes[-1]) / 2.0**63  # of all hashes, since none is negative
        return min(self.added, round((SIZE - 1) / share))

    def share_of(self, hashes: Tensor) -> float:
        """The fraction of inputs, given by their hashes, that were seen here.

        Where the sketch is a sample, of those that it would hold had they been seen; 0 for none.
        """
        known, hashes = self.hashes, hashes.cpu()
        if len(known) == SIZE:
            hashes = hashes[hashes <= known[-1]]
        return float(torch.isin(hashes, known).double().mean()) if len(hashes) else 0.0


def input_hashes(inputs: Any) -> Tensor:
    """(B,) int64: one hash for each input of a call, on the inputs' device.

    It depends on all values and not on the batch; zeros leave no trace, so that padding with them
    is none. A list of tensors is an input each.
    Sparse, nested and packed tensors have no hash.
    """
    hashed = torch.empty(0, dtype=torch.int64, device="cpu")
    tensors = list(_tensors(inputs))
    if any(tensor.numel() > 1 for tensor in tensors):  # one number is that of all inputs
        tensors = [tensor for tensor in tensors if tensor.ndim > 1 or len(tensor) != 1]
    for number, tensor in enumerate(tensors):
        if number and len(tensor) != len(hashed):
            continue
        rows = _mixed(_row_hashes(tensor) + 2 * number + 1)
        hashed = rows if not number else _mixed(hashed ^ rows)
    return hashed


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors among the arguments of a call that may have an input per row."""
    if isinstance(value, Tensor):
        if value.ndim and value.layout == torch.strided and not value.is_nested:
            yield value.detach()
    elif isinstance(value, list) and value and all(isinstance(part, Tensor) for part in value):
        yield torch.stack([_row_hashes(part.detach()[None])[0] for part in value])
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, (tuple, list)) and not hasattr(value, "batch_sizes"):
        for part in value:
            yield from _tensors(part)


def _row_hashes(tensor: Tensor) -> Tensor:
    """(B, ...) -> (B,) int64: the sum over places of the value's bits times the place's factor.

    Multilinear hashing (Carter and Wegman 1979, https://doi.org/10.1016/0022-0000(79)90044-8).
    """
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    rows = tensor.flatten(1) if tensor.ndim > 1 else tensor[:, None]
    factors = _mixed(torch.arange(1, rows.shape[1] + 1, device=rows.device)) | 1
    columns = max(1, BLOCK // max(1, len(rows)))
    hashes = torch.zeros(len(rows), dtype=torch.int64, device=rows.device)
    for part, own in zip(rows.split(columns, 1), factors.split(columns), strict=True):
        hashes += (_bits(part) * own).sum(1)
    return hashes


def _bits(values: Tensor) -> Tensor:
    """Whole numbers that tell values apart; 0 and -0 are 0."""
    if values.dtype == torch.float64:
        bits = (values + 0.0).view(torch.int64)  # which makes -0 the same as 0
        return bits ^ (bits >> 32)  # a product keeps the low bits alone, which 1.0 has none of
    if values.is_floating_point():
        return (values.float() + 0.0).view(torch.int32)
    return values.long()


def _mixed(bits: Tensor) -> Tensor:
    """int64 -> int64, each bit of which depends on all; 0 stays 0.

    The finaliser of SplitMix64 (Steele, Lea and Flood 2014, https://doi.org/10.1145/2660193.2660195).
    """
    bits = (bits ^ (bits >> 30)) * -0x40A7B892E31B1A47
    bits = (bits ^ (bits >> 27)) * -0x6B2FB644ECCEEE15
    return bits ^ (bits >> 31)
