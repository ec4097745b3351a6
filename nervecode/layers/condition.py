"""Condition: the state of a model in which its codes hold."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from nervecode.layers.architecture import Architecture
from nervecode.layers.attributes import Attributes
from nervecode.layers.hooks import Hooks
from nervecode.layers.look import TRAINING, Look, mood_of
from nervecode.layers.weights import weights_digest

CHANGED = "the model has other weights than its codes were made for; fit and calibrate again"
REBUILT = (
    "the model runs other modules or forwards than its codes were made for; fit and calibrate again"
)


_NUMBERS = itertools.count()


class Condition:
    """In evaluation mode, with the weights, modules and forwards that the codes were made for.

    Weights are told by a hash, which reads all of them. A call only looks whether modules,
    parameters and buffers are still the same objects, at the same place and version, and whether an
    optimiser of theirs has made a step, and hashes again where something moved; other threads wait
    for the hash. That misses what counts no version: writes through `.data` or through memory
    shared with NumPy, collectives of `torch.distributed`, kernels of one's own, replays of CUDA
    graphs, optimisers that keep copies of the weights and write them back so, and writes to tensors
    made in inference mode. Of hooks and plain attributes, as adapters keep whether they are on, it
    tells that they are others, since few of them change what is computed. It misses what modules
    keep otherwise outside parameters and persistent buffers, as quantised ones do. While
    `torch.compile` traces, only the mode is looked at, on which the graph then depends.

    Args:
        digest: the hash of the weights; None where it is not known.
        codes: a name of the codes, that no others have; None for a new one.
        architecture: what the codes were made for beside weights; None where it is not known.
    """

    def __init__(
        self,
        digest: str | None = None,
        codes: str | None = None,
        architecture: Architecture | None = None,
    ) -> None:
        self.digest = digest
        self.architecture = architecture
        self.codes = codes or secrets.token_hex(8)
        self.number = next(_NUMBERS)  # which no other has: an id is given again
        self._runs: tuple[Any, ...] = ()  # the forwards that the codes were made for
        self._hooks: Hooks | None = None  # and the hooks
        self._attributes: Attributes | None = None  # and the plain attributes of modules
        self._known: tuple[Look, bool] | None = None  # the weights as looked at, and as judged
        self._lock = threading.Lock()
        self._rests: int | None = None  # calls since the weights changed; None once they are hashed
        self._misses = 0  # hashes since they last held

    @classmethod
    def of(cls, model: nn.Module, codes: str | None = None) -> Condition:
        """That of a model as it is."""
        condition = cls(codes=codes)
        look = Look(model)
        condition.digest = weights_digest(model)
        condition.architecture = Architecture.of(model)
        condition._remember(model, look)
        condition._known = look, True
        return condition

    def complaint(self, model: nn.Module, *, surely: bool = False) -> str:
        """Why the codes do not hold for a model as it is, in words; empty where they do.

        `surely` is as in `has_weights_of`.
        """
        if torch.compiler.is_compiling():
            if self._known is None:  # as after a state dict was loaded
                return TRAINING if model.training else ""
            moody = self._known[0].guarded
            return next((moody[module] for module in moody if module.training), "")
        holds, known = self.has_weights_of(model, surely=surely), self._known
        if known is None or not holds:
            return REBUILT if known and known[1] else CHANGED
        look = known[0]
        for module in look.moody:  # each call does this: no generator
            if module.training:
                look.see_call()
                return look.moody[module]
        for module in look.calm:
            if module.training and (mood := mood_of(module)):
                return mood  # as of dropout whose rate was 0
        return ""

    def see_call(self) -> None:
        """Note that the model has run while nobody watched."""
        if self._known is not None:
            self._known[0].see_call()

    def has_weights_of(self, model: nn.Module, *, surely: bool = False) -> bool:
        """Whether the codes were made for a model's weights and what it runs, as far as is known.

        Args:
            model: the model.
            surely: hash them, however they look.
        """
        known = self._known
        if known and known[0].is_current() and self._rests is None and not surely:
            return self._runs_as(known)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return False  # within a transform: the weights are arguments, and have no values
        with self._lock:  # until they are judged, which no other thread guesses
            return self._judge(model, surely=surely)

    def _judge(self, model: nn.Module, *, surely: bool) -> bool:
        """Hash weights that have rested long enough: in training they change at each step.

        At most one hash more is made in vain than there are calls between two changes.
        """
        known = self._known
        look = known[0] if known and known[0].is_current() and not surely else None
        if known and look and self._rests is None:  # as another thread has found meanwhile
            return self._runs_as(known)
        self._rests = 0 if look is None or self._rests is None else self._rests + 1
        look = look or Look(model)  # before the hash: what moves meanwhile is looked at again
        if surely or self._rests >= self._misses - 1:
            if self._hooks is None:
                self._remember(model, look)
            self._known = look, self._hash(model)
            self._rests = None
        else:
            self._known = look, False
        return self._runs_as(self._known)

    def _runs_as(self, known: tuple[Look, bool]) -> bool:
        """Whether what was looked at has the weights, and runs what the codes were made for."""
        return known[1] and known[0].runs == self._runs

    def _remember(self, model: nn.Module, look: Look) -> None:
        """Take what a model runs for what its codes were made for."""
        self._runs, self._hooks = self._runs or look.runs, Hooks(model)
        self._attributes = Attributes(model)

    def _hash(self, model: nn.Module) -> bool:
        try:
            holds = self.digest is None or weights_digest(model) == self.digest
        except Exception:  # what cannot be read comes between no model and its answer
            holds = False
        self._misses = 0 if holds else self._misses + 1
        return holds

    def changes(self) -> Iterator[tuple[str, str]]:
        """What may change what modules compute, by a name and in words, as far as is known."""
        if self._hooks is not None and (remark := self._hooks.remark()):
            yield "hooks", remark
        if self._attributes is not None:
            yield from self._attributes.remarks()

    def remarks(self) -> Iterator[str]:
        """What calls cannot notice of this model, in words."""
        if self._known is not None and (number := len(self._known[0].uncounted)):
            yield (
                f"{number} of the model's weights were made in inference mode, where PyTorch "
                "counts no changes: calls do not notice other ones, only save, export and "
                "calibrate do"
            )

    def __deepcopy__(self, memo: dict[int, Any]) -> Condition:
        twin = Condition(self.digest, self.codes, self.architecture)
        twin._runs = self._runs  # of functions and classes, which a copied model shares
        return twin

    def __reduce__(self) -> tuple[type[Condition], tuple[str | None, str, Architecture | None]]:
        return Condition, (self.digest, self.codes, self.architecture)
