"""`nervecode archive`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nervecode.cli.options import Run
from nervecode.cli.show import say


def archive(
    run: Run,
    output: Annotated[
        Path | None, typer.Option(help="FILE.tar.gz; default: RUN.tar.gz beside the run.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace an output that exists.")] = False,
) -> None:
    """Pack a whole run for a release. The same run gives the same bytes.

    Example: nervecode archive runs/digits-…
    """
    from nervecode.lab.run.archive import archive_run
    from nervecode.lab.run.directory import RunDir

    opened = RunDir(run)
    root = opened.home
    path = output or root.with_name(f"{root.name}.tar.gz")
    packed, digest = archive_run(opened, path, force=force)
    typer.echo(f"{packed}  {path}")
    say(f"Unpacked, it is checked by: nervecode verify {root.name} --expect {digest}")
