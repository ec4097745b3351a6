"""`nervecode runs`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from nervecode.cli.show import next_step, say, show_table


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List the runs of a folder with status, gate and headline; failed ones too.

    Example: nervecode runs
    """
    from nervecode.lab.tables import Table

    rows = _rows(folder)
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "runs": rows}))
        return
    if not rows:
        say(f"No runs in {folder}. Next: nervecode bench --preset digits")
        return
    body = [[str(row[key]) for key in ("run", "status", "gate", "headline")] for row in rows]
    caption = "headline: AUROC x100 of nervecode, mean of near and far over seeds"
    show_table(Table(f"Runs in {folder}", ["run", "status", "gate", "headline"], body,
                     caption=caption))  # fmt: skip
    next_step("plot", folder / rows[-1]["run"])


def _rows(folder: Path) -> list[dict[str, Any]]:
    from nervecode.lab.run import list_runs

    return [
        {
            "run": run.root.name,
            "status": run.status,
            "gate": {True: "passed", False: "failed", None: "open"}[run.meta["gate"]["passed"]],
            "headline": _headline(run),
        }
        for run in list_runs(folder)
    ]


def _headline(run: Any) -> str:
    """The figure of the default signal; the error of a failed run; nothing where there is none."""
    from nervecode.errors import NervecodeError
    from nervecode.lab.rows import ranking, read_rows

    if run.status == "failed":
        return str(run.meta.get("error", ""))
    try:
        ranked = ranking(read_rows(run)["rows"])
    except NervecodeError:
        return ""
    found = [row for row in ranked if row["method"] == run.meta["primary_method"]]
    return (
        f"{100 * found[0]['auroc_mean']:.2f} ± {100 * found[0]['auroc_std']:.2f}" if found else ""
    )
