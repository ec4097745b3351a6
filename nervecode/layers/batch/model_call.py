"""ModelCall: what the model itself is given and returns, whatever a user's call makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from nervecode.layers.batch.inputs import device_of
from nervecode.layers.batch.picking import tensors_in
from nervecode.layers.guard.hooks import of_this_thread


class ModelCall:
    """The last call of a model within a block.

    Attributes:
        number: how many calls there were.
        args: the positional arguments.
        kwargs: the arguments by name.
        output: what the model returned; None where it was not called or takes no hooks.
        precision: what another such call has to be made within: the autocast of this one, if any.
        written_to: whether the model wrote to an argument, which is no longer what it was given.
    """

    def __init__(self) -> None:
        self.number = 0
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.output: Any = None
        self.precision: AbstractContextManager[Any] = nullcontext()
        self.written_to = False

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Within the block, this thread's calls of a model are kept."""
        if isinstance(model, (torch.jit.ScriptModule, nn.TransformerEncoderLayer)):
            yield  # a hook is refused by the one, and changes the kernel of the other
            return
        kind, versions = device_of(model).type, list[int]()

        def begin(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            versions[:] = _versions((args, kwargs))

        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self.number += 1
            self.args, self.kwargs, self.output = args, kwargs, output
            self.precision = _autocast(kind)
            self.written_to = versions != _versions((args, kwargs))

        with (
            model.register_forward_pre_hook(of_this_thread(begin), with_kwargs=True),
            model.register_forward_hook(of_this_thread(keep), with_kwargs=True),
        ):
            yield


def _versions(arguments: Any) -> list[int]:
    """How often each tensor was written to; those of inference mode do not tell."""
    return [x._version for x in tensors_in(arguments) if not x.is_inference()]


def _autocast(kind: str) -> AbstractContextManager[Any]:
    """The autocast of a kind of device that holds now."""
    if not torch.is_autocast_enabled(kind):
        return nullcontext()
    return torch.autocast(kind, dtype=torch.get_autocast_dtype(kind))
