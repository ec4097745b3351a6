"""`config.yaml` of a run, and the file that marks a demonstration."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nervecode.errors import ArtifactError, InputError
from nervecode.files import write_text
from nervecode.lab.config.stored import dump_config, load_config
from nervecode.lab.run.commands import command
from nervecode.lab.run.paths import DEMO
from nervecode.lab.schema import Config

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir


def read_config(run: RunDir) -> Config:
    """The resolved config of a run, from its file.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    path = run.root / "config.yaml"
    if run.recorded(path) and not run.is_whole("config.yaml"):
        raise ArtifactError(
            f"{path}: is missing or damaged (its SHA-256 is not the one in meta.json); "
            "put a copy back, or begin a new run"
        )
    try:
        return load_config(path)
    except InputError as error:
        raise ArtifactError(f"{path}: is missing or damaged ({error})") from None


def write_config(root: Path, config: Config) -> list[str]:
    """Write the config, and the mark of a demonstration; returns the names of what was written."""
    header = command("bench", "--config", root / "config.yaml")
    write_text(root / "config.yaml", dump_config(config, header=header))
    if not config.demo:
        return ["config.yaml"]
    write_text(root / DEMO, "A demonstration: its figures claim nothing.\n")
    return ["config.yaml", DEMO]
