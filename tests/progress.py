"""Progress that keeps what it is told."""

from __future__ import annotations

from nervecode.lab.machine.progress import Progress


class Told(Progress):
    """Attributes: pieces, a [title, total, done] for each piece of work that was begun."""

    def __init__(self) -> None:
        self.pieces: list[tuple[str, int, int]] = []

    def start(self, title: str, total: int) -> None:
        self.pieces.append((title, total, 0))

    def advance(self, steps: int = 1, **shown: float | str) -> None:
        title, total, done = self.pieces[-1]
        self.pieces[-1] = title, total, done + steps
