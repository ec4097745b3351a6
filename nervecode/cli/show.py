"""What the commands show: tables on standard output, progress and remarks on standard error."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from nervecode.lab.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    from nervecode.lab.tables import Table

QUIET_SECONDS = 10.0


def say(message: str) -> None:
    """A remark, on standard error."""
    typer.echo(message, err=True)


def next_step(command: str, *arguments: object) -> None:
    """Name the command that follows."""
    say(f"Next: nervecode {command} {shlex.join(map(str, arguments))}".rstrip())


def show_table(table: Table, *, wide: bool = False) -> None:
    """A table on standard output; best in bold, second underlined."""
    from rich.console import Console
    from rich.table import Table as RichTable

    grid = RichTable(title=table.title, caption=table.caption or None, title_justify="left")
    for number, name in enumerate(table.header):
        grid.add_column(name, justify="left" if number == 0 else "right", overflow="fold")
    for r, row in enumerate(table.body):
        cells = []
        for c, text in enumerate(row):
            style = (
                "bold" if (r, c) in table.best else "underline" if (r, c) in table.second else ""
            )
            cells.append(f"[{style}]{text}[/{style}]" if style else text)
        grid.add_row(*cells)
    # A wide table goes to a file or a pipe unwrapped; on a terminal it keeps to its width.
    width = None if sys.stdout.isatty() and not wide else 200
    Console(width=width, highlight=False).print(grid)


@contextmanager
def progress() -> Iterator[Progress]:
    """Bars on a terminal; elsewhere a line every so often."""
    if not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[shown]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _Bars(bars)


class _Bars(Progress):
    """One bar for the piece of work at hand; finished ones make room."""

    def __init__(self, bars: Bars) -> None:
        self.bars = bars
        self.task: TaskID | None = None

    def start(self, title: str, total: int) -> None:
        if self.task is not None:
            self.bars.remove_task(self.task)
        self.task = self.bars.add_task(title, total=total, rate="", shown="")

    def advance(self, steps: int = 1, **shown: float) -> None:
        if self.task is None:
            return
        task = self.bars.tasks[0]
        fields: dict[str, Any] = {"rate": f"{task.speed:.0f}/s" if task.speed else ""}
        if shown:
            fields["shown"] = _figures(shown)
        self.bars.update(self.task, advance=steps, **fields)


class _Lines(Progress):
    """A line at the start of a piece of work, then one every ten seconds with the time left."""

    def start(self, title: str, total: int) -> None:
        self.title, self.total, self.done = title, total, 0
        self.began = self.last = time.monotonic()
        say(f"{title} …")

    def advance(self, steps: int = 1, **shown: float) -> None:
        self.done += steps
        now = time.monotonic()
        if self.done and now - self.last >= QUIET_SECONDS:
            self.last = now
            left = (now - self.began) / self.done * (self.total - self.done)
            say(f"{self.title}: {self.done}/{self.total}, {left:.0f} s left {_figures(shown)}")


def _figures(shown: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3g}" for name, value in shown.items())


def relative(path: Path) -> Path:
    """A path as seen from here, where that is shorter."""
    try:
        return path.resolve().relative_to(Path.cwd())
    except ValueError:
        return path
