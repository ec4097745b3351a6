"""Weights of a model: its parameters and persistent buffers, and their hash."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

Place = Mapping[str, Tensor | None]


def weights_of(model: nn.Module) -> Iterator[tuple[Place, str, Tensor]]:
    """Every parameter and persistent buffer, and where its module keeps it."""
    for where, name, tensor in _weights(model):
        if tensor is not None:
            yield where, name, tensor


def empty_places(model: nn.Module) -> Iterator[tuple[Place, str]]:
    """Where modules have a name for a weight that they lack, such as a bias."""
    return ((where, name) for where, name, tensor in _weights(model) if tensor is None)


def places_of(module: nn.Module) -> tuple[Place, Place]:
    """Where a module keeps its parameters, and its buffers."""
    places = (module._parameters, module._buffers)
    if isinstance(module, torch.jit.ScriptModule):  # whose mappings cannot be asked by name
        return dict(places[0].items()), dict(places[1].items())
    return places


def _weights(model: nn.Module) -> Iterator[tuple[Place, str, Tensor | None]]:
    for module in model.modules():
        for where in places_of(module):
            for name, tensor in where.items():
                if name not in module._non_persistent_buffers_set:
                    yield where, name, tensor


def weights_digest(model: nn.Module) -> str:
    """SHA-256 of a model's parameters and persistent buffers, in its order, without their names."""
    digest = hashlib.sha256()
    with torch.no_grad():
        for _, _, tensor in weights_of(model):
            values = _values(tensor)
            digest.update(b"no values" if values is None else _memory(values))
    return digest.hexdigest()


def _values(tensor: Tensor) -> Tensor | None:
    """(n,) uint8 what a tensor holds, on the CPU; None where it holds nothing."""
    if is_lazy(tensor) or tensor.is_meta:
        return None
    if hasattr(tensor, "to_local"):  # a shard of a distributed tensor
        tensor = tensor.to_local()
    plain = tensor.detach().int_repr() if tensor.is_quantized else tensor.detach()
    if plain.layout != torch.strided:
        plain = plain.to_dense()
    plain = plain.resolve_conj().resolve_neg()  # views, whose bytes are others
    if type(plain) is Tensor and plain.numel() and not plain.untyped_storage().nbytes():
        return None  # freed until it is gathered again, as by FSDP
    return plain.cpu().contiguous().reshape(-1).view(torch.uint8)


def _memory(values: Tensor) -> Any:
    """The bytes of `values`, not copied; they must not outlive it.

    NumPy's would do, but a tensor that was shown to it once can never be resized again.
    """
    if type(values) is not Tensor or not len(values):
        return values.numpy().data
    return (ctypes.c_ubyte * len(values)).from_address(values.data_ptr())
