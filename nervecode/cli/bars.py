"""Bars and lines: how far a run has come, on a terminal and elsewhere."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import rich.progress
from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    Task,
    TextColumn,
)
from rich.table import Column
from rich.text import Text

from nervecode.cli.log import log
from nervecode.lab.machine.progress import Progress

if TYPE_CHECKING:
    from nervecode.lab.machine.tracking import Tracking

QUIET_SECONDS = 10.0
REFRESHES = 8  # a second
TITLE = 36  # columns of 80 that a title may take


class Clock:
    """Where the work stands: the parts of a run, and the piece at hand.

    Attributes:
        took: part -> the longest that one of its name took. A part that was done before takes no
            time, and says nothing about the next.
    """

    def __init__(self) -> None:
        self.parts: Sequence[str] = ()
        self.number, self.whose = 0, ""
        self.took: dict[str, float] = {}
        self.begin("", 0)
        self.part_began = self.began

    def part(self, parts: Sequence[str], number: int, whose: str) -> None:
        """The next part begins."""
        now = time.monotonic()
        if 0 < self.number <= len(self.parts):
            name = self.parts[self.number - 1]
            self.took[name] = max(self.took.get(name, 0.0), now - self.part_began)
        self.parts, self.number, self.whose, self.part_began = parts, number, whose, now

    def begin(self, title: str, total: int) -> None:
        """The next piece of work begins."""
        self.title, self.total, self.done = title, total, 0
        self.shown: dict[str, float | str] = {}
        self.began = time.monotonic()

    @property
    def rate(self) -> float:
        """Steps a second, of the piece at hand."""
        return self.done / max(time.monotonic() - self.began, 1e-9)

    @property
    def left(self) -> float | None:
        """Seconds until the piece at hand is done; None before its first step."""
        return (self.total - self.done) / self.rate if self.done else None

    @property
    def left_of_all(self) -> float | None:
        """Seconds until all parts are done; None before one of each name was done."""
        rest = self.parts[self.number - 1 :]
        if not rest or any(name not in self.took for name in rest):
            return None
        current = self.took[rest[0]] - (time.monotonic() - self.part_began)
        return max(current, self.left or 0.0, 0.0) + sum(self.took[name] for name in rest[1:])

    @property
    def place(self) -> str:
        """`stage 2 of 9 · seed 1 of 3`, or nothing where the work has no parts."""
        if not self.parts:
            return ""
        if self.number > len(self.parts):
            return f"{len(self.parts)} of {len(self.parts)} stages done"
        return f"stage {self.number} of {len(self.parts)} · {self.whose}"


@contextmanager
def display(
    write: Callable[[str], None],
    *,
    console: Console | None = None,
    tracking: Tracking | None = None,
) -> Iterator[Progress]:
    """Progress as bars on a console or, without one, as lines for `write`.

    Epochs are told to `tracking` as well.
    """
    if console is None:
        yield _PlainLines(write, tracking)
        return
    shown = _Bars(console, tracking)
    with shown.bars:
        yield shown


class _PlainLines(Progress):
    """A line every ten seconds, with the time left; the log has each piece of work as well."""

    def __init__(self, write: Callable[[str], None], tracking: Tracking | None = None) -> None:
        self.clock = Clock()
        self.write, self.tracking = write, tracking
        self.last = -math.inf

    def part(self, parts: Sequence[str], number: int, whose: str) -> None:
        self.clock.part(parts, number, whose)

    def start(self, title: str, total: int) -> None:
        self.clock.begin(title, total)
        tell = self.write if self._due() else log
        tell(f"{title} …")

    def advance(self, steps: int = 1, **shown: float | str) -> None:
        clock = self.clock
        clock.done += steps
        clock.shown |= shown
        if clock.left is None or not self._due():
            return
        parts = [f"{clock.title}: {clock.done}/{clock.total}", f"{duration(clock.left)} left"]
        parts += [clock.place] if clock.place else []
        if clock.left_of_all is not None:
            parts.append(f"{duration(clock.left_of_all)} left of all")
        self.write(", ".join([*parts, *figures(clock.shown)]))

    def epoch(
        self, seed: int, row: Mapping[str, Any], layers: Sequence[Mapping[str, Any]], *, of: int
    ) -> None:
        super().epoch(seed, row, layers, of=of)
        if self.tracking is not None:
            self.tracking.epoch(seed, row, layers)

    def tell(self, remark: str) -> None:
        self.write(remark)

    def _due(self) -> bool:
        """Whether it is time for a line; however many pieces there are, they make no flood."""
        now = time.monotonic()
        if now - self.last < QUIET_SECONDS:
            return False
        self.last = now
        return True


class _Bars(_PlainLines):
    """Bars on a terminal; the lines go to the log."""

    def __init__(self, console: Console, tracking: Tracking | None = None) -> None:
        super().__init__(log, tracking)
        self.bars = _TwoBars(self.clock, console)

    def tell(self, remark: str) -> None:
        super().tell(remark)
        self.bars.console.print(remark, markup=False, highlight=False)


class _TwoBars(rich.progress.Progress):
    """The run and the piece at hand as two bars, and a line of figures below."""

    def __init__(self, clock: Clock, console: Console) -> None:
        self.clock = clock  # first, since Rich draws while it is made
        title = Column(no_wrap=True, overflow="ellipsis", max_width=TITLE)
        numbers = (Column(justify="right", no_wrap=True) for _ in range(2))
        super().__init__(
            TextColumn("{task.description}", markup=False, table_column=title),
            BarColumn(None, table_column=Column(ratio=1, min_width=8)),
            MofNCompleteColumn(table_column=next(numbers)),
            _TimeLeft(table_column=next(numbers)),
            console=console,
            transient=True,
            expand=True,
            refresh_per_second=REFRESHES,
        )
        for _ in ("run", "piece"):
            self.add_task("", left=None)

    def get_renderables(self) -> Iterator[RenderableType]:
        """The display as the clock stands."""
        clock, parts = self.clock, len(self.clock.parts)
        whole = (clock.place, min(clock.number - 1, parts), parts, clock.left_of_all)
        piece = (clock.title, clock.done, clock.total, clock.left)
        for task, (title, done, total, left) in zip(self.task_ids, (whole, piece), strict=False):
            self.update(
                task, description=title, completed=done, total=total, left=left, visible=title != ""
            )
        yield self.make_tasks_table(self.tasks)
        said = figures(clock.shown)
        if clock.done:
            said.append(f"{clock.rate:,.{0 if clock.rate >= 10 else 1}f} steps/s")
        yield Text(" · ".join(said), style="dim", no_wrap=True, overflow="ellipsis")


class _TimeLeft(ProgressColumn):
    """Rich knows a rate from the second step on, the clock from the first."""

    def render(self, task: Task) -> Text:
        left = task.fields["left"]
        return Text("" if left is None else f"{duration(left)} left")


def figures(shown: Mapping[str, float | str]) -> list[str]:
    """Figures in a few words each."""
    return [f"{n} {v if isinstance(v, str) else format(v, '.3g')}" for n, v in shown.items()]


def duration(seconds: float) -> str:
    """`7 s`, `3:07 min` or `2:10 h`.

    >>> duration(6.6), duration(187), duration(7800)
    ('7 s', '3:07 min', '2:10 h')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02} h"
