"""`nervecode config`: what a command would run with, and where each setting came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli import options
from nervecode.cli.options import ConfigFile, Device, Overrides, Preset, Seeds
from nervecode.cli.show import next_step, show_table
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.config.resolve import Resolved

app = typer.Typer(
    help="Show the settings that a command would run with.\n\n"
    "Example: nervecode config show --preset digits -o train.epochs=3 --origin",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.callback()
def group() -> None:
    """Keep `show` a command of its own."""


@app.command()
def show(
    run: Annotated[
        Path | None, typer.Argument(help="A run, for the settings it has.", metavar="RUN")
    ] = None,
    preset: Preset = None,
    config: ConfigFile = None,
    seeds: Seeds = None,
    device: Device = None,
    override: Overrides = None,
    origin: Annotated[bool, typer.Option("--origin", help="Where each setting came from.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Print the resolved settings; a setting that nobody gave is a default.

    Example: nervecode config show --preset digits -o train.epochs=3 --origin
    """
    if run is not None:
        if preset is not None or config is not None:
            raise InputError("config show: give RUN alone, or --preset NAME, or --config FILE")
        if not run.is_dir():
            told = options.preset_called(run, "config show")
            raise InputError(f"{run}: no such run directory{told}")
        config = run / "config.yaml"
    resolved = options.resolve_options(preset, config, seeds, device, override)
    settings = _settings(resolved)
    if as_json:
        typer.echo(json.dumps({"schema_version": 1, "settings": settings}))
    elif origin:
        _show_origins(settings)
    else:
        from nervecode.lab.config.stored import dump_config

        typer.echo(dump_config(resolved.config, header=options.command_line()), nl=False)
    next_step("bench", *(("--preset", preset) if preset else ("--config", config)))


def _settings(resolved: Resolved) -> dict[str, dict[str, Any]]:
    """Dotted key -> its value and its origin."""
    from nervecode.lab.config.stored import dotted

    return {
        key: {"value": value, "origin": resolved.origins.get(key, "default")}
        for key, value in dotted(resolved.config.model_dump(mode="json")).items()
    }


def _show_origins(settings: dict[str, dict[str, Any]]) -> None:
    from nervecode.lab.results.table import Table

    body = [[key, _plain(setting["value"]), setting["origin"]] for key, setting in settings.items()]
    show_table(Table("Settings", ["setting", "value", "from"], body))


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
