"""Condition: the state of a model in which its codes hold."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import torch
from torch import nn

from nervecode.layers.look import TRAINING, Look
from nervecode.layers.weights import weights_digest

CHANGED = "the model has other weights than its codes were made for; fit and calibrate again"


class Condition:
    """In evaluation mode, and with the weights that the codes were made for.

    Weights are told by a hash, which reads all of them. A call only looks whether modules,
    parameters and buffers are still the same objects, at the same place and version, and whether an
    optimiser of theirs has made a step, and hashes again where that is so. That misses what counts
    no version: writes through `.data` or through memory shared with NumPy, collectives of
    `torch.distributed`, kernels of one's own, replays of CUDA graphs, optimisers that keep copies
    of the weights and write them back so, and writes to tensors made in inference mode. It also
    misses modules without weights in the place of others, and whatever a module keeps outside
    parameters and persistent buffers, as quantised modules do. While `torch.compile` traces, only
    the mode is looked at, on which the graph then depends.

    Args:
        digest: the hash of the weights; None where it is not known.
        codes: a name of the codes, that no others have; None for a new one.
    """

    def __init__(self, digest: str | None = None, codes: str | None = None) -> None:
        self.digest = digest
        self.codes = codes or secrets.token_hex(8)
        self._look: Look | None = None
        self._holds = True
        self._hashed = True  # the weights as they were looked at last
        self._rests = 0  # calls since the weights changed last
        self._misses = 0  # hashes since they last held

    @classmethod
    def of(cls, model: nn.Module, codes: str | None = None) -> Condition:
        """That of a model as it is."""
        condition = cls(codes=codes)
        condition._look = Look(model)
        condition.digest = weights_digest(model)
        return condition

    def complaint(self, model: nn.Module, *, surely: bool = False) -> str:
        """Why the codes do not hold for a model as it is, in words; empty where they do.

        `surely` is as in `has_weights_of`.
        """
        if torch.compiler.is_compiling():
            if self._look is None:  # as after a state dict was loaded
                return TRAINING if model.training else ""
            moody = self._look.guarded
        elif not self.has_weights_of(model, surely=surely):
            return CHANGED
        else:
            assert self._look is not None
            moody = self._look.moody
        for module in moody:  # each call does this: no generator
            if module.training:
                return moody[module]
        return ""

    def has_weights_of(self, model: nn.Module, *, surely: bool = False) -> bool:
        """Whether the codes were made for a model's weights; True where that is not known.

        Args:
            model: the model.
            surely: hash them, however they look.
        """
        if surely:
            self._look = Look(model)
            return self._hash(model)
        if self._look is not None and self._look.is_current():
            return self._holds if self._hashed else self._rest(model)
        if torch._C._functorch.peek_interpreter_stack() is not None:
            return False  # within a transform: the weights are arguments, and have no values
        self._look, self._hashed, self._rests = Look(model), False, -1
        return self._rest(model)

    def _rest(self, model: nn.Module) -> bool:
        """Hash weights that have rested long enough: in training they change at each step.

        At most one hash more is made in vain than there are calls between two changes.
        """
        self._rests += 1
        return self._hash(model) if self._rests >= self._misses - 1 else self._holds

    def _hash(self, model: nn.Module) -> bool:
        self._hashed = True
        try:
            self._holds = self.digest is None or weights_digest(model) == self.digest
        except Exception:  # what cannot be read comes between no model and its answer
            self._holds = False
        self._misses = 0 if self._holds else self._misses + 1
        return self._holds

    def remarks(self) -> Iterator[str]:
        """What calls cannot notice of this model, in words."""
        if self._look is not None and (number := len(self._look.uncounted)):
            yield (
                f"{number} of the model's weights were made in inference mode, where PyTorch "
                "counts no changes: calls do not notice other ones, only save, export and "
                "calibrate do"
            )

    def __reduce__(self) -> tuple[type[Condition], tuple[str | None, str]]:
        return Condition, (self.digest, self.codes)
