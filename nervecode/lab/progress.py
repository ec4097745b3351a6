"""Progress: what a stage says while it works. The command line shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class Progress:
    """Says nothing. The command line passes a subclass that draws bars."""

    def start(self, title: str, total: int) -> None:
        """A piece of work of `total` steps begins."""

    def advance(self, steps: int = 1, **shown: float) -> None:
        """Some steps are done; `shown` are figures worth showing."""

    def tell(self, remark: str) -> None:
        """Something that the user should know."""

    def track(self, title: str, items: Iterable[T], total: int) -> Iterator[T]:
        """Yield items, advancing by one after each."""
        self.start(title, total)
        for item in items:
            yield item
            self.advance()
