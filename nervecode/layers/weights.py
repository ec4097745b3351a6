"""Weights of a model: its parameters and persistent buffers, and their hash."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy


def weights_of(model: nn.Module) -> Iterator[tuple[Mapping[str, Tensor | None], str, Tensor]]:
    """Every parameter and persistent buffer, and where its module keeps it."""
    for module in model.modules():
        places: tuple[Mapping[str, Tensor | None], ...] = (module._parameters, module._buffers)
        if isinstance(module, torch.jit.ScriptModule):  # whose mappings cannot be asked by name
            places = tuple(dict(where.items()) for where in places)
        for where in places:
            for name, tensor in where.items():
                if tensor is not None and name not in module._non_persistent_buffers_set:
                    yield where, name, tensor


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and persistent buffers, in its order, without their names."""
    digest = hashlib.sha256()
    with torch.no_grad():
        for _, _, tensor in weights_of(model):
            digest.update(_content(tensor))
    return digest.hexdigest()


def _content(tensor: Tensor) -> bytes | memoryview:
    if is_lazy(tensor) or tensor.is_meta:
        return b"no values"
    if hasattr(tensor, "to_local"):  # a shard of a distributed tensor
        tensor = tensor.to_local()
    plain = tensor.detach().int_repr() if tensor.is_quantized else tensor.detach()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    values = plain.cpu().contiguous().reshape(-1).view(torch.uint8)
    return values.numpy().data  # not its bytes, which would be a copy
