"""`nervecode runs`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli.formats import Csv, Json, Latex, Markdown, chosen_format, emit
from nervecode.cli.show import next_step, say
from nervecode.errors import InputError, nearest
from nervecode.files import names_beside

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir

DEFAULT = Path("runs")
DAMAGED = "damaged"
COLUMNS = ("run", "status", "gate", "seeds", "headline")


def runs(
    folder: Annotated[Path, typer.Argument(help="Where the runs are.")] = DEFAULT,
    as_json: Json = False,
    as_csv: Csv = False,
    as_md: Markdown = False,
    as_latex: Latex = False,
) -> None:
    """List runs with status, gate and headline. Failed and damaged ones too.

    Example: nervecode runs --md
    """
    from nervecode.lab.results.table import Table
    from nervecode.lab.run.commands import command

    if (folder / "meta.json").exists():
        raise InputError(f"{folder} is itself a run; `{command('report', folder)}` makes its page")
    if not folder.is_dir() and folder != DEFAULT:
        near = nearest(folder.name, names_beside(folder, Path.is_dir))
        raise InputError(
            f"{folder}: no such folder" + (f"; did you mean {near!r}?" if near else "")
        )
    form = chosen_format(json=as_json, csv=as_csv, md=as_md, latex=as_latex)
    rows = _rows(folder)
    if not rows and form != "json":
        say(f"No runs in {folder}. Next: nervecode bench --preset digits")
        return
    body = [[str(row[key]) for key in COLUMNS] for row in rows]
    caption = "headline: AUROC x100 of nervecode, mean of near and far over seeds"
    table = Table(f"Runs in {folder}", list(COLUMNS), body, caption=caption)
    emit(form, [table], rows=rows, document={"runs": rows})
    whole = [folder / row["run"] for row in rows if row["status"] != DAMAGED]
    if len(whole) > 1:
        next_step("compare", *whole[-2:])
    elif whole:
        next_step("report", whole[-1])


def _rows(folder: Path) -> list[dict[str, Any]]:
    from nervecode.lab.results.rows import gate_word
    from nervecode.lab.run.directory import whole_and_damaged

    whole, damaged = whole_and_damaged(folder)
    return [
        {
            "run": run.root.name,
            "status": run.status,
            "gate": gate_word(run.meta["gate"]),
            "seeds": len(run.meta["seeds"]),
            "headline": _headline(run),
        }
        for run in whole
    ] + [
        {"run": name, "status": DAMAGED, "gate": "", "seeds": 0, "headline": why}
        for name, why in damaged.items()
    ]


def _headline(run: RunDir) -> str:
    """The figure of the default signal; the error of a failed run; nothing where there is none."""
    from nervecode.errors import NervecodeError
    from nervecode.lab.results.rows import ranking, read_rows
    from nervecode.lab.results.tables import with_deviation

    if run.status == "failed":
        return " ".join(str(run.meta.get("error", "")).replace("|", "/").split())
    try:
        ranked = ranking(read_rows(run)["rows"])
    except NervecodeError:
        name = "results.json"  # of a run that has come so far
        return f"{name} is missing or damaged" if run.recorded(run.root / name) else ""
    primary = [row for row in ranked if row["method"] == run.meta["primary_method"]]
    return with_deviation(primary[0], " ± ") if primary else ""
