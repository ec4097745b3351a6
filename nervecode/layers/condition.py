"""Condition: the state of a model in which its codes hold."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cache
from inspect import isfunction
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

TRAINING = "the model is in training mode, and was calibrated in evaluation mode; call eval()"
TRANSFORMERS = (
    nn.Transformer, nn.TransformerEncoder, nn.TransformerDecoder,
    nn.TransformerEncoderLayer, nn.TransformerDecoderLayer,
)  # fmt: skip
CHANGED = "the model has other weights than its codes were made for; fit and calibrate again"


class Condition:
    """In evaluation mode, and with the weights that the codes were made for.

    Weights are told by a hash, which reads all of them. A call only looks whether modules,
    parameters and buffers are still the same objects, of the same dtype at the same version, and
    hashes again where they are not. That misses writes that count no version (through `.data`, or
    through memory shared with NumPy), modules without weights in the place of others, and whatever
    a module keeps outside parameters and persistent buffers, as quantised modules do. While
    `torch.compile` traces, only the mode is looked at, on which the graph then depends.

    Args:
        digest: the hash of the weights; None where it is not known.
    """

    def __init__(self, digest: str | None = None) -> None:
        self.digest = digest
        self._look: _Look | None = None
        self._holds = True
        self._changes = 0  # since the weights last held

    @classmethod
    def of(cls, model: nn.Module) -> Condition:
        """That of a model as it is."""
        condition = cls(weights_digest(model))
        condition._look = _Look.at(model)
        return condition

    def complaint(self, model: nn.Module) -> str:
        """Why the codes do not hold for a model as it is, in words; empty where they do."""
        if torch.compiler.is_compiling():
            moody = () if self._look is None else self._look.guarded
        elif not self.has_weights_of(model):
            return CHANGED
        else:
            assert self._look is not None
            moody = self._look.moody
        return TRAINING if any(module.training for module in moody) else ""

    def has_weights_of(self, model: nn.Module) -> bool:
        """Whether the codes were made for a model's weights; True where that is not known."""
        if self._look is not None and self._look.is_current():
            return self._holds
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return False  # within a transform: the weights are arguments, and have no values
        self._look = _Look.at(model)
        self._changes += 1
        # In training the weights change at each step: they are not hashed at each.
        if self.digest is not None and self._changes & (self._changes - 1) == 0:
            self._holds = weights_digest(model) == self.digest
            self._changes = 0 if self._holds else self._changes
        return self._holds

    def __reduce__(self) -> tuple[type[Condition], tuple[str | None]]:
        return Condition, (self.digest,)


class _Look(NamedTuple):
    """A model as it was seen.

    Attributes:
        moody: the modules that do something else in training than in evaluation.
        guarded: those of them that a graph may look at; none of a model that was compiled before,
            whose modules Dynamo refuses to reach by two ways.
        parts: where each module keeps those within it, and these.
        weights: where each parameter or buffer is kept, its name there, itself, its version and
            its dtype, which `.half()` changes without a version.
    """

    moody: tuple[nn.Module, ...]
    guarded: tuple[nn.Module, ...]
    parts: tuple[tuple[Mapping[str, nn.Module | None], tuple[nn.Module | None, ...]], ...]
    weights: tuple[tuple[Mapping[str, Tensor | None], str, Tensor, int, torch.dtype], ...]

    @classmethod
    def at(cls, model: nn.Module) -> _Look:
        # What was made in inference mode counts no versions, and cannot be trained.
        weights = tuple(
            (where, name, tensor, tensor._version, tensor.dtype)
            for where, name, tensor in _weights(model)
            if not tensor.is_inference()
        )
        parts = tuple(
            (module._modules, tuple(module._modules.values()))
            for module in model.modules()
            if module._modules and not isinstance(module, torch.jit.ScriptModule)
        )
        moody = tuple(module for module in model.modules() if heeds_mode(module))
        return cls(moody, () if hasattr(model, "dynamo_ctx") else moody, parts, weights)

    def is_current(self) -> bool:
        for within, modules in self.parts:  # each call does this: no generator
            if tuple(within.values()) != modules:
                return False
        for where, name, tensor, version, dtype in self.weights:
            if where.get(name) is not tensor or tensor._version != version:
                return False
            if tensor.dtype is not dtype:
                return False
        return True


def heeds_mode(module: nn.Module) -> bool:
    """Whether a module does something else in training: its code asks, and it has reason to."""
    if isinstance(module, TRANSFORMERS):  # which ask for the sake of speed; their parts count
        return False
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.RNNBase, nn.MultiheadAttention)):
        return module.dropout > 0
    if isinstance(module, nn.modules.batchnorm._NormBase):
        return module.track_running_stats
    return _asks_for_mode(type(module).__mro__)


@cache
def _asks_for_mode(lineage: tuple[type, ...]) -> bool:
    """Whether the code of a kind of module, given by its classes, reads `training`."""
    own = lineage[: lineage.index(nn.Module)]
    functions = [value for cls in own for value in vars(cls).values() if isfunction(value)]
    return any("training" in function.__code__.co_names for function in functions)


def _weights(model: nn.Module) -> Iterator[tuple[Mapping[str, Tensor | None], str, Tensor]]:
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
        for _, _, tensor in _weights(model):
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
