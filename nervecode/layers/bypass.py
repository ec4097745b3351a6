"""Bypass: blocks within which a thread's calls are not watched."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Bypass:
    """How many such blocks each thread is in; a copy or a pickle is in none.

    Not a context variable, which torch.compile cannot trace.
    """

    def __init__(self) -> None:
        self._local = threading.local()

    def __bool__(self) -> bool:
        """Whether this thread is in a block."""
        return self._depth > 0

    @property
    def _depth(self) -> int:
        depth: int = getattr(self._local, "depth", 0)
        return depth

    @contextmanager
    def within(self) -> Iterator[None]:
        """One more block of this thread."""
        self._local.depth = self._depth + 1
        try:
            yield
        finally:
            self._local.depth = self._depth - 1

    def __reduce__(self) -> tuple[type[Bypass], tuple[()]]:
        return Bypass, ()
