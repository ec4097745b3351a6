"""`nervecode presets`: list, show, copy."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nervecode.cli.show import next_step, show_table

app = typer.Typer(
    help="List the presets; show or copy one.\n\nExample: nervecode presets show digits",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def presets(context: typer.Context) -> None:
    """List the presets with their data, expected minutes and memory."""
    if context.invoked_subcommand is not None:
        return
    from nervecode.lab.config.presets import preset_info
    from nervecode.lab.results.table import Table

    body = [
        [info.name, _kind(info.data), info.minutes, info.memory, info.description]
        for info in preset_info()
    ]
    header = ["preset", "data", "minutes", "memory", "what"]
    show_table(Table("Presets", header, body, caption="minutes on two CPU cores unless said"))
    next_step("bench", "--preset", "digits")  # it needs no download


def _kind(data: str) -> str:
    """The name of a set; of one by path what stands before it, such as `folder:`."""
    kind, colon, _ = data.partition(":")
    return kind + colon


@app.command()
def show(name: str) -> None:
    """Print a preset.

    Example: nervecode presets show digits
    """
    from nervecode.lab.config.presets import preset_path

    typer.echo(preset_path(name).read_text(encoding="utf-8"), nl=False)
    next_step("presets", "copy", name, "my.yaml")


@app.command()
def copy(
    name: str,
    file: Path,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that exists.")] = False,
) -> None:
    """Copy a preset to a file of your own.

    Example: nervecode presets copy digits my.yaml
    """
    from nervecode.files import check_new, write_text
    from nervecode.lab.config.presets import preset_path

    text = preset_path(name).read_text(encoding="utf-8")
    check_new(file, what="FILE", force=force)
    write_text(file, text)
    typer.echo(file)
    next_step("bench", "--config", file)
