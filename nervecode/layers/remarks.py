"""Remarks: what is to be said of a watched model, each thing once."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch

from nervecode.core.call import is_recomputed

_MUTED: ContextVar[bool] = ContextVar("nervecode_muted", default=False)


class Remarks:
    """Says each thing once, as a `UserWarning`.

    Where warnings are errors it is logged instead: a remark never comes between a model and its
    answer.
    """

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, message: str, *, about: str | None = None, again: bool = False) -> None:
        """Say something, unless it was said already, or something else `about` the same.

        Args:
            message: what is to be said.
            about: what it is about; None for the message itself.
            again: say it in any case.
        """
        key = about or message
        muted = is_recomputed() or (not torch.compiler.is_compiling() and _MUTED.get())
        if muted or (key in self._told and not again):
            return
        self._told.add(key)
        try:
            warnings.warn(message, stacklevel=3)
        except UserWarning:
            logging.getLogger("nervecode").warning(message)

    @contextmanager
    def muted(self) -> Iterator[None]:
        """Within the block, nothing is said in this thread: what runs there, nobody asked for."""
        token = _MUTED.set(True)
        try:
            yield
        finally:
            _MUTED.reset(token)
