"""Table: texts in rows, for a terminal, Markdown or LaTeX."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows of text; `best` and `second` are (row, column) of AUROC cells."""

    title: str
    header: list[str]
    body: list[list[str]]
    best: frozenset[tuple[int, int]] = frozenset()
    second: frozenset[tuple[int, int]] = frozenset()
    caption: str = ""


def as_markdown(table: Table) -> str:
    """One table as Markdown; best in bold, second in italics; no heading without a title."""
    lines = [f"## {table.title}\n"] if table.title else []
    lines += [_line(table.header), _line(["---"] * len(table.header))]
    for r, row in enumerate(table.body):
        cells = []
        for c, text in enumerate(row):
            mark = "**" if (r, c) in table.best else "*" if (r, c) in table.second else ""
            cells.append(f"{mark}{text}{mark}")
        lines.append(_line(cells))
    return "\n".join([*lines, "", table.caption, ""])


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
