"""InputMarks: which input of a stream was which, for a bounded number of inputs."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any, NamedTuple

KEPT = 512


class Mark(NamedTuple):
    """What the stream calls an input: its number, from 1, its id and its time, where it has one."""

    number: int
    id: str | None
    time: str | None


class InputMarks:
    """The first input and every so many; how many grows with the stream, so memory does not.

    Attributes:
        stride: every how many inputs one is kept.
        marks: those kept, in order.
    """

    def __init__(self) -> None:
        self.stride = 1
        self.marks: list[Mark] = []

    def note(self, mark: Mark) -> None:
        """Note an input; numbers ascend."""
        if not self.marks or mark.number % self.stride == 0:
            self.marks.append(mark)
        if len(self.marks) > KEPT:
            self.stride *= 2
            first, *others = self.marks
            self.marks = [first, *(other for other in others if other.number % self.stride == 0)]

    def at(self, number: int) -> Mark | None:
        """The last input noted up to that number."""
        place = bisect_right(self.marks, number, key=lambda mark: mark.number)
        return self.marks[place - 1] if place else None

    def state_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return {"stride": self.stride, "marks": [list(mark) for mark in self.marks]}

    def load_state_dict(self, state: Any) -> None:
        """What `state_dict` gave.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        stride, marks = state["stride"], [Mark(*mark) for mark in state["marks"]]
        texts = [text for mark in marks for text in mark[1:]]
        if not all(type(count) is int and count > 0 for count in (stride, *(m[0] for m in marks))):
            raise ValueError("marks: numbers of inputs are whole and above 0")
        if not all(text is None or isinstance(text, str) for text in texts):
            raise ValueError("marks: ids and times are texts")
        self.stride, self.marks = stride, marks
