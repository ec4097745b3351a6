"""`nervecode doctor`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from nervecode.cli.show import next_step, say


def doctor(
    runs: Annotated[Path, typer.Argument(help="The folder of runs.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Show versions, device, threads, data sets and disk. One block for a bug report.

    Example: nervecode doctor
    """
    from nervecode.lab.doctor import as_text, examine

    parts = examine(runs)
    typer.echo(json.dumps({"schema_version": 1, **parts}) if as_json else as_text(parts))
    for part, facts in parts.items():
        if "failed" in facts:
            say(f"{part}: {facts['failed']}")
    next_step("data")
