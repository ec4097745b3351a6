"""Formats: the same tables for a terminal, a program, a page or a paper."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli.show import show_table
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.results.table import Table

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Csv = Annotated[bool, typer.Option("--csv", help="Comma-separated rows.")]
Markdown = Annotated[bool, typer.Option("--md", help="Markdown tables.")]
Latex = Annotated[bool, typer.Option("--latex", help="LaTeX tables.")]


def chosen_format(**flags: bool) -> str:
    """The format whose flag is set; `text` where none is.

    Raises:
        InputError: more than one flag.
    """
    chosen = [name for name, flag in flags.items() if flag]
    if len(chosen) > 1:
        given = " and ".join(f"--{name}" for name in chosen)
        raise InputError(f"{given}: allowed: one of {', '.join(f'--{name}' for name in flags)}")
    return chosen[0] if chosen else "text"


def emit(
    form: str,
    tables: Sequence[Table],
    *,
    rows: Sequence[Mapping[str, Any]],
    document: Mapping[str, Any],
) -> None:
    """Print tables as text, `md` or `latex`, tidy rows as `csv`, or a document as `json`."""
    if form == "json":
        typer.echo(json.dumps({"schema_version": 1, **document}, allow_nan=False))
    elif form == "csv":
        from nervecode.files import csv_text

        typer.echo(csv_text(rows), nl=False)
    elif form == "md":
        from nervecode.lab.results.table import as_markdown

        typer.echo("\n".join(map(as_markdown, tables)), nl=False)
    elif form == "latex":
        from nervecode.lab.results.latex import as_latex

        typer.echo("\n".join(map(as_latex, tables)), nl=False)
    else:
        for table in tables:
            show_table(table)
