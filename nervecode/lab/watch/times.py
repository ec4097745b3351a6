"""InputTimes: when which input came, for a bounded number of inputs."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

KEPT = 512


class InputTimes:
    """The times of every so many inputs; how many grows with the stream, so that memory does not.

    Attributes:
        stride: every how many inputs a time is kept.
        marks: (number of the input, its time).
    """

    def __init__(self) -> None:
        self.stride = 1
        self.marks: list[tuple[int, str]] = []

    def tick(self, number: int, time: str) -> None:
        """Note the time of an input; numbers ascend."""
        if number % self.stride == 0:
            self.marks.append((number, time))
        if len(self.marks) > KEPT:
            self.stride *= 2
            self.marks = [mark for mark in self.marks if mark[0] % self.stride == 0]

    def at(self, number: int) -> str | None:
        """The last time noted up to an input."""
        place = bisect_right(self.marks, number, key=lambda mark: mark[0])
        return self.marks[place - 1][1] if place else None

    def state_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"stride": self.stride, "marks": [list(mark) for mark in self.marks]}

    def load_state_dict(self, state: Any) -> None:
        """What `state_dict` gave."""
        self.stride = int(state["stride"])
        self.marks = [(int(number), str(time)) for number, time in state["marks"]]
