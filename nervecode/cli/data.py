"""`nervecode data`: list the data sets, fetch what is absent."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.show import next_step, say, show_table
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.data.locate import Location

app = typer.Typer(
    help="List data sets and their state; fetch absent ones.\n\n"
    "Example: nervecode data fetch kmnist",
    rich_markup_mode=None,
    invoke_without_command=True,
)


@app.callback()
def data(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """List every data set: what it is, and where it is or what gets it."""
    if context.invoked_subcommand is not None:
        return
    from nervecode.lab.data.locate import NO_ROOT, VARIABLE, data_root, locations

    places, root = locations(), data_root()
    if as_json:
        sets = [asdict(place) for place in places]
        folder = None if root is None else str(root)
        typer.echo(json.dumps({"schema_version": 1, "folder": folder, "sets": sets}))
        return
    home = f"fetched sets live in {root} (set {VARIABLE} to move it)"
    _show(places, home if root else f"this user has {NO_ROOT}")
    absent = [place.name for place in places if place.command.startswith("nervecode ")]
    if absent:
        next_step("data", "fetch", absent[0])
    else:
        next_step("presets")


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Data sets to fetch.")],
    source: Annotated[
        Path | None,
        typer.Option("--from", metavar="DIR", help="A folder with the files or archives."),
    ] = None,
) -> None:
    """Fetch data sets: by torchvision's download, or from a folder.

    Example: nervecode data fetch cifar10 cifar100 svhn dtd
    """
    from nervecode.lab.data.catalogue import CATALOGUE
    from nervecode.lab.data.fetch import check_names
    from nervecode.lab.data.fetch import fetch as fetch_set

    check_names(names)
    alike = [name for name in names if CATALOGUE[name].files]
    if source is not None and len(alike) > 1:
        raise InputError(f"--from: found {len(alike)} sets, allowed: one (each has files alike)")
    for name in names:
        say(f"{name} …")
        typer.echo(f"{name}: {fetch_set(name, source=source)}")
    next_step("data")


def _show(locations: list[Location], caption: str) -> None:
    from nervecode.lab.data.catalogue import CATALOGUE
    from nervecode.lab.results.table import Table

    body = [
        [
            place.name,
            CATALOGUE[place.name].about,
            "present" if place.present else "absent",
            _where(place),
        ]
        for place in locations
    ]
    header = ["set", "what", "state", "where, or what gets it"]
    show_table(Table("Data sets", header, body, caption=caption))


def _where(place: Location) -> str:
    """What fits a line: the package that carries a set, or the first of the ways to get it."""
    from nervecode.lab.data.catalogue import CATALOGUE

    wheel = CATALOGUE[place.name].wheel
    if not place.present:
        return place.command.partition(",")[0]
    return f"comes with {wheel.package}" if wheel else place.where
