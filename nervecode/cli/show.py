"""What the commands show: tables on standard output, progress and remarks on standard error."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import typer

from nervecode.cli.log import log, printable
from nervecode.lab.machine.progress import Progress

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from nervecode.lab.machine.tracking import Tracking
    from nervecode.lab.results.table import Table
    from nervecode.lab.run.directory import RunDir

GAP = 2  # spaces between the columns of a table

quiet: ContextVar[bool] = ContextVar("quiet", default=False)
"""Whether standard error is for errors alone; results and `run.log` are as ever."""


def say(message: str) -> None:
    """A remark, on standard error and in the log of the run at hand."""
    log(message)
    if not quiet.get():
        typer.echo(printable(message), err=True)


def complain(message: str, hint: str = "") -> None:
    """An error, on standard error; on a terminal in a panel, with what to do next."""
    message = printable(message)
    if not on_terminal():
        typer.echo(f"Error: {message}", err=True)
        return
    from rich.console import Console
    from rich.panel import Panel
    from rich.text import Text

    text = Text(message)
    if hint:
        text.append(f"\n\nNext: {hint}", style="dim")
    panel = Panel(text, title="Error", title_align="left", border_style="red", padding=(0, 1))
    Console(stderr=True, highlight=False).print(panel)


def on_terminal() -> bool:
    """Whether standard error is a terminal that can be drawn on."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


def say_takeover(run: RunDir) -> None:
    """Say whose lock is about to be taken, where its owner is gone."""
    if run.lock.is_stale():
        say(f"{run.lock.owner()} is gone; this process takes over its run")


def next_step(command: str, *arguments: object) -> None:
    """Name the command that follows."""
    from nervecode.lab.run import commands

    say(f"Next: {commands.command(command, *arguments)}")


def show_table(table: Table) -> None:
    """A table on standard output; best in bold, second underlined.

    Columns that do not fit the width follow in a further part, each with the first column again.
    """
    from rich.console import Console

    # A pipe or a file has no width of its own; a wide one keeps rows whole.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    console.print(f"\n{table.title}", style="bold", markup=False)
    for columns in _parts(table, console.width):
        console.print()
        console.print(_grid(table, columns))
    console.print()
    if table.caption:
        console.print(table.caption, style="dim", markup=False)


def _parts(table: Table, width: int) -> list[list[int]]:
    """Column numbers in groups that fit a width; each group begins with column 0."""
    widths = [
        max(len(row[c]) for row in [table.header, *table.body]) + GAP
        for c in range(len(table.header))
    ]
    parts: list[list[int]] = [[0]]
    for column in range(1, len(widths)):
        needed = sum(widths[c] for c in [*parts[-1], column]) - GAP  # none after the last
        if len(parts[-1]) > 1 and needed > width:
            parts.append([0])
        parts[-1].append(column)
    return parts


def _grid(table: Table, columns: list[int]) -> RichTable:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(box=SIMPLE_HEAD, padding=(0, GAP - 1, 0, 0), show_edge=False, pad_edge=False)
    for column in columns:
        numbers = all(not row[column] or is_number(row[column]) for row in table.body)
        justify: Literal["left", "right"] = "right" if column and numbers else "left"
        grid.add_column(table.header[column], justify=justify, overflow="fold")
    for r, row in enumerate(table.body):
        best, second = {c for q, c in table.best if q == r}, {c for q, c in table.second if q == r}
        cells = [Text(printable(row[c]).replace("\n", "\\n")) for c in columns]
        for c, cell in zip(columns, cells, strict=True):
            # The figure alone, and not what it is padded with to stand to the right.
            cell.stylize("bold" if c in best else "underline" if c in second else "")
        grid.add_row(*cells)
    return grid


def is_number(cell: str) -> bool:
    """Whether a cell begins with a figure, and stands to the right."""
    return cell.lstrip("-")[:1].isdigit()


@contextmanager
def progress(tracking: Tracking | None = None) -> Iterator[Progress]:
    """A display on a terminal, elsewhere a line every so often; with `--quiet` in the log alone.

    Epochs are told to `tracking` as well.
    """
    from nervecode.cli.bars import display
    from nervecode.lab.machine.progress import showing_reading

    console = None
    if on_terminal() and not quiet.get():
        from rich.console import Console

        console = Console(stderr=True)
    with (
        results_alone(),
        display(say, console=console, tracking=tracking) as shown,
        showing_reading(shown),
    ):
        yield shown


@contextmanager
def results_alone() -> Iterator[None]:
    """Keep standard output for results: what a network prints goes to standard error.

    With `--quiet` it goes nowhere.
    """
    with (
        open(os.devnull, "w", encoding="utf-8") as nowhere,
        redirect_stdout(nowhere if quiet.get() else sys.stderr),
    ):
        yield
