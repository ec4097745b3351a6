"""Architecture: what a model is made of beside its weights, as a file of its codes tells it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.loss import _Loss

from nervecode.layers.callables import is_known
from nervecode.layers.guard.options import class_of, is_of_torch, options_of
from nervecode.layers.names import shell_part

# Leaves that do nothing in evaluation; the last three without parts.
IDLE = re.compile(
    r"Identity|\w*(Dropout|DropPath|DropBlock|StochasticDepth)(\dd)?|Sequential|Module(List|Dict)"
)
MAKERS = "parametrizations"


class Part(NamedTuple):
    """A module as it is compared.

    Attributes:
        kind: the name of its class; empty where it has parts, which say more than its name does.
        options: the plain attributes that its class declares, as by arguments of its constructor;
            of no class of PyTorch's, also what `extra_repr` says, and with parts the class; and
            hashes of small buffers that no state dict has.
    """

    kind: str
    options: Mapping[str, Any]

    def __str__(self) -> str:
        return f"{self.kind}({', '.join(f'{key}={self.options[key]!r}' for key in self.options)})"


class Mismatch(NamedTuple):
    """Where a model differs from the one that codes were made for.

    Attributes:
        text: in words.
        sure: whether the model computes something else for certain, as far as modules tell.
    """

    text: str
    sure: bool


class Architecture:
    """The modules of a model by their names, but for those that do nothing in evaluation.

    Wrappers, such as that of `torch.compile`, count for nothing, and neither do dtype, device,
    mode, parametrisations that one of two models lacks, and what changes training or speed alone.
    What the forward of a class does is not looked at.

    Args:
        parts: by name.
    """

    def __init__(self, parts: Mapping[str, Part]) -> None:
        self.parts = parts

    @classmethod
    def of(cls, model: nn.Module) -> Architecture:
        """That of a model as it is."""
        found = ((name, _part(module)) for name, module in _walk(model, "", set()))
        return cls({name: part for name, part in found if part is not None})

    @classmethod
    def from_plain(cls, value: list[Any]) -> Architecture:
        """The reverse of `plain`."""
        return cls({n: Part(kind, options) for kind, options, names in value for n in names})

    def plain(self) -> list[Any]:
        """As JSON values: of modules that are alike, kind, options, and all names."""
        alike: dict[str, list[Any]] = {}
        for name, (kind, options) in self.parts.items():
            key = json.dumps([kind, options], sort_keys=True)
            alike.setdefault(key, [kind, options, []])[2].append(name)
        return list(alike.values())

    def mismatches(self, model: nn.Module) -> Iterator[Mismatch]:
        """How a model differs, in its order; what only one of both tells of a module is no matter.

        So releases of PyTorch may have other options.
        """
        missing = dict(self.parts)
        for name, module in _walk(model, "", set()):
            made = missing.pop(name, None) or Part("", {})
            found = _part(module) or Part("", {})
            where = f"module {name!r}" if name else "the model"
            if _is_removable(name) and not (found.kind and made.kind):
                continue
            if found.kind != made.kind:
                what = found if found.kind else class_of(module).__name__
                text = f"{where}: found {what}, made for {made if made.kind else 'none'}"
                # A loss or a metric of one's own, which the answer does not go through, may lack.
                yield Mismatch(text, bool(found.kind and made.kind) or _is_torchs(found, made))
                continue
            for key, value in found.options.items():
                if value != made.options.get(key, value):
                    text = f"{where}: found {key}={value!r}, made for {made.options[key]!r}"
                    yield Mismatch(text, is_of_torch(class_of(module)))
        for name, made in missing.items():
            if made.kind and not _is_removable(name):
                text = f"module {name!r}: found none, made for {made}"
                yield Mismatch(text, _is_torchs(made))


def _is_torchs(*parts: Part) -> bool:
    """Whether one of them is of a class that PyTorch has by its name."""
    return any(hasattr(nn, part.kind) for part in parts if part.kind)


def _is_removable(name: str) -> bool:
    """Whether a module makes a weight of others, which may be kept as it is made instead."""
    return MAKERS in name.split(".")


def _walk(module: nn.Module, name: str, seen: set[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
    """A module and its parts by their names, without wrappers; leaves by all their names."""
    if shell := shell_part(module):
        yield from _walk(getattr(module, shell), name, seen)
        return
    parts = _parts(module)
    if parts and module in seen:
        return
    seen.add(module)
    yield name, module
    made = {own: part for own, part in module._modules.items() if own == MAKERS and part}
    for own, part in {**parts, **made}.items():
        yield from _walk(part, f"{name}.{own}" if name else own, seen)


def _parts(module: nn.Module) -> dict[str, nn.Module]:
    """The parts of a module that are compared."""
    parts = module._modules.items()
    return {name: part for name, part in parts if part is not None and not _hides(module, name)}


def _hides(module: nn.Module, name: str) -> bool:
    """Whether a part is one in which PyTorch keeps weights or makes them, or a coder."""
    if name == MAKERS:
        return True
    known = is_known(class_of(module)) and not isinstance(module, torch.jit.ScriptModule)
    return known and (name.startswith("_") or name in ("coder", "coders"))


def _part(module: nn.Module) -> Part | None:
    """What is compared of a module; None where that is nothing."""
    kind = "" if _parts(module) else _kind(module)
    if IDLE.fullmatch(kind) or isinstance(module, _Loss):
        return None
    options = options_of(module, has_parts=not kind)
    return Part(kind, options) if kind or options else None


def _kind(module: nn.Module) -> str:
    if isinstance(module, torch.jit.ScriptModule):
        return str(module.original_name)
    kind = class_of(module)
    if issubclass(kind, _BatchNorm) and is_of_torch(kind):  # of any dimension, and of ranks
        return "BatchNorm"
    return kind.__name__
