"""Samples: inputs and labels in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

Shape = tuple[int, ...]  # of one input

EVAL_BATCH = 256  # inputs that meet the network together outside of training


def as_float(inputs: Tensor) -> Tensor:
    """Inputs as float32: bytes, which only pictures are, become [0, 1]; others stay as they are."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs


def chosen(count: int, limit: int | None, generator: torch.Generator) -> Tensor:
    """At most `limit` of so many rows, at random, since files are sorted by class; in order."""
    if limit is None or limit >= count:
        return torch.arange(count)
    return torch.randperm(count, generator=generator)[:limit].sort().values


@dataclass(frozen=True)
class Samples:
    """N inputs with their labels.

    Attributes:
        inputs: (N, C, H, W) images, float32 in [0, 1] or uint8, a quarter of the memory, which
            `as_float` turns into the same; (N, D) features or (N, C, T) series, float32.
        labels: (N,) int64; -1 where there is no class.
        groups: (N,) int64, inputs that no split may part; None where each stands alone.
    """

    inputs: Tensor
    labels: Tensor
    groups: Tensor | None = None

    @classmethod
    def unlabelled(cls, inputs: Tensor) -> Samples:
        """Samples without classes."""
        return cls(inputs, torch.full((len(inputs),), -1))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor | slice) -> Samples:
        groups = None if self.groups is None else self.groups[index]
        return Samples(self.inputs[index], self.labels[index], groups)

    def head(self, limit: int | None) -> Samples:
        """The first `limit` samples, or all."""
        return self if limit is None else self[:limit]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(float inputs, labels) in order, `size` at a time."""
        for start in range(0, len(self), size):
            part = self[start : start + size]
            yield as_float(part.inputs), part.labels

    @cached_property  # each seed of a run asks for it again
    def fingerprint(self) -> str:
        """SHA-256 over shapes, inputs and labels."""
        digest = hashlib.sha256(str([tuple(self.inputs.shape), str(self.inputs.dtype)]).encode())
        for tensor in (self.inputs, self.labels):
            digest.update(tensor.contiguous().flatten().numpy().data)  # not its bytes: a copy
        return digest.hexdigest()
