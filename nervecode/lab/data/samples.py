"""Samples: inputs and labels in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Shape = tuple[int, ...]  # of one input

EVAL_BATCH = 256  # inputs that meet the network together outside of training


def as_float(inputs: Tensor) -> Tensor:
    """Inputs as float32: bytes 0 to 255 become [0, 1], anything else stays as it is."""
    return inputs.float().div_(255) if inputs.dtype == torch.uint8 else inputs


@dataclass(frozen=True)
class Samples:
    """N inputs with their labels.

    Attributes:
        inputs: (N, C, H, W) images, float32 in [0, 1] or uint8, a quarter of the memory, which
            `as_float` turns into the same; or (N, D) features, float32.
        labels: (N,) int64; -1 where there is no class.
    """

    inputs: Tensor
    labels: Tensor

    @classmethod
    def unlabelled(cls, inputs: Tensor) -> Samples:
        """Samples without classes."""
        return cls(inputs, torch.full((len(inputs),), -1))

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: Tensor | slice) -> Samples:
        return Samples(self.inputs[index], self.labels[index])

    def head(self, limit: int | None) -> Samples:
        """The first `limit` samples, or all."""
        return self if limit is None else self[:limit]

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(float inputs, labels) in order, `size` at a time."""
        for start in range(0, len(self), size):
            part = self[start : start + size]
            yield as_float(part.inputs), part.labels

    def fingerprint(self) -> str:
        """SHA-256 over shapes, inputs and labels."""
        digest = hashlib.sha256(str([tuple(self.inputs.shape), str(self.inputs.dtype)]).encode())
        for tensor in (self.inputs, self.labels):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()
