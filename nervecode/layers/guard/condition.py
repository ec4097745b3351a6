"""Condition: the state of a model in which its codes hold."""

from __future__ import annotations

import itertools
import secrets
import threading
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from nervecode.layers.guard.architecture import Architecture
from nervecode.layers.guard.attributes import Attributes
from nervecode.layers.guard.hooks import Hooks
from nervecode.layers.guard.snapshot import TRAINING, ModelSnapshot, mode_warning
from nervecode.layers.guard.weights import weights_digest

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
        self._forwards: tuple[Any, ...] = ()  # the forwards that the codes were made for
        self._hooks: Hooks | None = None  # and the hooks
        self._attributes: Attributes | None = None  # and the plain attributes of modules
        self._known: tuple[ModelSnapshot, bool] | None = None  # and whether its weights are those
        self._lock = threading.Lock()
        self._unhashed_calls: int | None = None  # since the weights changed; None: hashed since
        self._vain_hashes = 0  # hashes since they last held

    @classmethod
    def of(cls, model: nn.Module, codes: str | None = None) -> Condition:
        """That of a model as it is."""
        condition = cls(codes=codes)
        snapshot = ModelSnapshot(model)
        condition.digest = weights_digest(model)
        condition.architecture = Architecture.of(model)
        condition._remember(model, snapshot)
        condition._known = snapshot, True
        return condition

    def complaint(self, model: nn.Module, *, rehash: bool = False) -> str:
        """Why the codes do not hold for a model as it is, in words; empty where they do.

        `rehash` is as in `has_weights_of`.
        """
        if torch.compiler.is_compiling():
            if self._known is None:  # as after a state dict was loaded
                return TRAINING if model.training else ""
            users = self._known[0].traceable
            return next((users[module] for module in users if module.training), "")
        holds, known = self.has_weights_of(model, rehash=rehash), self._known
        if known is None or not holds:
            return REBUILT if known and known[1] else CHANGED
        snapshot = known[0]
        for module in snapshot.mode_users:  # each call does this: no generator
            if module.training:
                snapshot.note_call()
                return snapshot.mode_users[module]
        for module in snapshot.other_modules:
            if module.training and (warning := mode_warning(module)):
                return warning  # as of dropout whose rate was 0
        return ""

    def note_call(self) -> None:
        """Note that the model has run while nobody watched."""
        if self._known is not None:
            self._known[0].note_call()

    def has_weights_of(self, model: nn.Module, *, rehash: bool = False) -> bool:
        """Whether the codes were made for a model's weights and what it runs, as far as is known.

        Args:
            model: the model.
            rehash: hash them, even where nothing seems to have changed.
        """
        known = self._known
        if known and known[0].is_current() and self._unhashed_calls is None and not rehash:
            return self._matches(known)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return False  # within a transform: the weights are arguments, and have no values
        with self._lock:  # until they are judged, which no other thread guesses
            return self._judge(model, rehash=rehash)

    def _judge(self, model: nn.Module, *, rehash: bool) -> bool:
        """Hash the weights once they were unchanged for enough calls: training changes each step.

        At most one hash more is made in vain than there are calls between two changes.
        """
        known = self._known
        snapshot = known[0] if known and known[0].is_current() and not rehash else None
        if known and snapshot and self._unhashed_calls is None:  # another thread has hashed
            return self._matches(known)
        waiting = self._unhashed_calls
        self._unhashed_calls = 0 if snapshot is None or waiting is None else waiting + 1
        snapshot = snapshot or ModelSnapshot(model)  # before the hash: what changes now is seen
        if rehash or self._unhashed_calls >= self._vain_hashes - 1:
            if self._hooks is None:
                self._remember(model, snapshot)
            self._known = snapshot, self._hash(model)
            self._unhashed_calls = None
        else:
            self._known = snapshot, False
        return self._matches(self._known)

    def _matches(self, known: tuple[ModelSnapshot, bool]) -> bool:
        """Whether what was looked at has the weights, and runs what the codes were made for."""
        return known[1] and known[0].forwards == self._forwards

    def _remember(self, model: nn.Module, snapshot: ModelSnapshot) -> None:
        """Take what a model runs for what its codes were made for."""
        self._forwards, self._hooks = self._forwards or snapshot.forwards, Hooks(model)
        self._attributes = Attributes(model)

    def _hash(self, model: nn.Module) -> bool:
        try:
            holds = self.digest is None or weights_digest(model) == self.digest
        except Exception:  # what cannot be read comes between no model and its answer
            holds = False
        self._vain_hashes = 0 if holds else self._vain_hashes + 1
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
        twin._forwards = self._forwards  # of functions and classes, which a copied model shares
        return twin

    def __reduce__(self) -> tuple[type[Condition], tuple[str | None, str, Architecture | None]]:
        return Condition, (self.digest, self.codes, self.architecture)
