"""Options that several commands share, and how their texts become settings."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nervecode.cli.show import say
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.config.resolve import Resolved


def completing(names: Callable[[], Iterable[str]]) -> Callable[[str], list[str]]:
    """What a shell is offered where an option is one of `names`, which load when it asks."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names() if name.startswith(incomplete)]

    return complete


def _presets() -> Iterable[str]:
    from nervecode.lab.config.presets import presets

    return presets()


Preset = Annotated[
    str | None,
    typer.Option(
        help="A preset; `nervecode presets` lists them.", autocompletion=completing(_presets)
    ),
]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A YAML config file.")]
Seeds = Annotated[str | None, typer.Option(help="Seeds, such as 0,1,2.")]
Device = Annotated[str | None, typer.Option(help="auto, cpu or cuda.")]
OutDir = Annotated[
    Path | None,
    typer.Option(help="The folder in which the run directory is made.", show_default="runs"),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--override", "-o", help="Any setting, as key=value: -o train.epochs=3."),
]
DryRun = Annotated[
    bool,
    typer.Option("--dry-run", help="Build everything, run one batch, estimate; write nothing."),
]
Deterministic = Annotated[
    bool | None, typer.Option("--deterministic", help="PyTorch's deterministic algorithms alone.")
]


def _trust(context: typer.Context, given: bool) -> bool:
    if given:
        from nervecode.lab.models.user_code import trusting

        context.with_resource(trusting())
    return given


TrustCode = Annotated[
    bool,
    typer.Option(
        "--trust-code",
        callback=_trust,  # which does all: it holds until the command ends
        help="Run the Python code that a config or a run names (python:MODULE:FUNCTION).",
    ),
]
AnyRun = Annotated[Path | None, typer.Argument(help="A run to go on with.", metavar="RUN")]
Run = Annotated[Path, typer.Argument(help="A run directory.", metavar="RUN")]


CheckpointUri = Annotated[
    str | None, typer.Option(help="Where the checkpoint can be had; a label, noted in meta.json.")
]
CheckpointSha256 = Annotated[
    str | None, typer.Option("--checkpoint-sha256", help="Its SHA-256; a label as well.")
]


def checkpoint_label(uri: str | None, sha256: str | None) -> dict[str, Any]:
    """What is noted in `meta.json` of a checkpoint that comes from, or goes, elsewhere.

    Raises:
        InputError: a SHA-256 that is none.
    """
    if sha256 is not None and not re.fullmatch("[0-9a-f]{64}", sha256):
        raise InputError(f"SHA-256: found {sha256!r}, allowed: 64 hexadecimal digits, lower case")
    given = {"uri": uri, "sha256": sha256}
    return {"checkpoint": given} if any(given.values()) else {}


def resolve_options(
    preset: str | None,
    config: Path | None,
    seeds: str | None,
    device: str | None,
    overrides: list[str] | None,
    **settings: Any,
) -> Resolved:
    """The config that a command line names; unset options (None) are left to file and preset."""
    from nervecode.lab.config.resolve import resolve

    given: dict[str, Any] = {"seeds": parse_seeds(seeds), "device": device, **settings}
    resolved = resolve(
        preset=preset,
        file=config,
        overrides=overrides or (),
        settings={key: value for key, value in given.items() if value is not None},
    )
    for remark in resolved.remarks:
        say(remark)
    if resolved.left_out:
        names = " ".join(resolved.left_out)
        say(f"left out, absent here: {names} (get it: nervecode data fetch {names})")
    return resolved


def parse_seeds(text: str | None) -> list[int] | None:
    """`0,1,2` as a list.

    Raises:
        InputError: something that is not a list of whole numbers.
    """
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"--seeds: found {text!r}, allowed: whole numbers as in 0,1,2") from None


def only(option: str, given: Sequence[str]) -> str:
    """The value of an option for which several would not be more than the last.

    Raises:
        InputError: several.
    """
    if len(given) > 1:
        raise InputError(
            f"{option}: found {', '.join(given)}, allowed: one; a folder or tar files hold many"
        )
    return given[0]


def command_line() -> str:
    """This command, as one could type it."""
    return shlex.join(["nervecode", *sys.argv[1:]])


def preset_called(run: Path, command: str) -> str:
    """What whoever took a preset's name, or a file, for RUN should have written; else nothing."""
    from nervecode.lab.config.presets import presets

    name = str(run)
    if name in presets():
        return f"; `nervecode {command} --preset {name}` takes the preset"
    if run.is_file() and run.suffix in (".yaml", ".yml"):
        return f"; `nervecode {command} --config {shlex.quote(name)}` takes the file"
    return ""
