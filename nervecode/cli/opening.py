"""Opening: the run that a command line names, or a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nervecode.cli import options
from nervecode.cli.show import progress
from nervecode.errors import InputError

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.schema import Config
    from nervecode.lab.stages.bench import Prepared


def open_run(
    command: str,
    run: Path | None,
    *,
    preset: str | None = None,
    config: Path | None = None,
    seeds: str | None = None,
    device: str | None = None,
    outdir: Path = Path("runs"),
    override: list[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    check: Callable[[Config, Prepared], object] = lambda config, prepared: None,
    trains: bool = True,
) -> tuple[RunDir, Config, Prepared]:
    """The run that the arguments of a command name, or a new one, and the config it is to have.

    Nothing is written before all is in order, `check` included; `trains` is as in `prepare`.
    """
    from nervecode.lab.config.packages import recalling
    from nervecode.lab.ranks.job import check_batch
    from nervecode.lab.run.config_file import read_config
    from nervecode.lab.run.shared import create_shared, open_shared
    from nervecode.lab.stages.bench import prepare

    given = settings or {}

    def checked(new: Config, opened: RunDir | None = None) -> Prepared:
        check_batch(new.train.batch_size, compiled=new.train.compile)
        with progress():  # of the data that are read
            prepared = prepare(new, opened, trains=trains)
            check(new, prepared)
        return prepared

    if run is None:
        if preset is None and config is None:
            raise InputError(f"{command}: give one of --preset NAME, --config FILE and RUN")
        new = options.resolve_options(preset, config, seeds, device, override, **given).config
        prepared = checked(new)
        return create_shared(new, outdir, command=options.command_line()), new, prepared
    if preset is not None or config is not None:
        raise InputError(f"{command}: give RUN alone, or --preset NAME, or --config FILE")
    if not run.is_dir() and (told := options.preset_called(run, command)):
        raise InputError(f"{run}: no such run directory{told}")
    opened = open_shared(run)
    read_config(opened)  # damaged, it is an artifact's error and not the user's
    path = opened.root / "config.yaml"
    with recalling(opened.meta.get("packages", {})):
        new = options.resolve_options(None, path, seeds, device, override, **given).config
    return opened, new, checked(new, opened)
