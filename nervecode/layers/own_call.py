"""OwnCall: what the model itself is given and returns, whatever a user's call makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nervecode.layers.hooks import of_this_thread


class OwnCall:
    """The last call of a model within a block.

    Attributes:
        number: how many calls there were.
        args: the positional arguments.
        kwargs: the arguments by name.
        output: what the model returned; None where it was not called or takes no hooks.
    """

    def __init__(self) -> None:
        self.number = 0
        self.args: tuple[Any, ...] = ()
        self.kwargs: dict[str, Any] = {}
        self.output: Any = None

    @contextmanager
    def watching(self, model: nn.Module) -> Iterator[None]:
        """Within the block, this thread's calls of a model are kept."""
        if isinstance(model, (torch.jit.ScriptModule, nn.TransformerEncoderLayer)):
            yield  # a hook is refused by the one, and changes the kernel of the other
            return

        def keep(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            self.number += 1
            self.args, self.kwargs, self.output = args, kwargs, output

        with model.register_forward_hook(of_this_thread(keep), with_kwargs=True):
            yield
