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

RUNS = Path("runs")  # where new runs are made


def open_run(
    command: str,
    run: Path | None,
    *named: Any,
    outdir: Path | None = None,
    check: Callable[[Config, Prepared], object] = lambda config, prepared: None,
    trains: bool = True,
) -> tuple[RunDir, Config, Prepared]:
    """The run that the arguments of a command name, or a new one, and the config it is to have.

    Nothing is written before all is in order, `check` included; `trains` is as in `prepare`, what
    is `named` as in `named_run`.
    """
    from nervecode.lab.run.shared import create_shared
    from nervecode.lab.stages.bench import prepare

    opened, new = named_run(command, run, *named, outdir=outdir)
    with progress():  # of the data that are read
        prepared = prepare(new, opened, trains=trains)
        check(new, prepared)
    if opened is None:
        opened = create_shared(new, outdir or RUNS, command=options.command_line())
    return opened, new, prepared


def named_run(
    command: str,
    run: Path | None,
    preset: str | None = None,
    config: Path | None = None,
    seeds: str | None = None,
    device: str | None = None,
    override: list[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    outdir: Path | None = None,
) -> tuple[RunDir | None, Config]:
    """The run that the arguments of a command name, if they do, and the config that they ask for.

    Raises:
        InputError: no such run or config, neither, or both; a folder for new runs beside a run; a
            batch that the processes of a job cannot share.
        ArtifactError: the config of the run is damaged.
    """
    from nervecode.lab.config.packages import recalling
    from nervecode.lab.ranks.job import check_batch
    from nervecode.lab.run.config_file import read_config
    from nervecode.lab.run.shared import open_shared

    if run is not None and outdir is not None:
        raise InputError("--outdir: found with RUN, allowed: with --preset or --config")
    opened, given = None, settings or {}
    if run is None:
        if preset is None and config is None:
            raise InputError(f"{command}: give one of --preset NAME, --config FILE and RUN")
        new = options.resolve_options(preset, config, seeds, device, override, **given).config
    else:
        if preset is not None or config is not None:
            raise InputError(f"{command}: give RUN alone, or --preset NAME, or --config FILE")
        if not run.is_dir() and (told := options.preset_called(run, command)):
            raise InputError(f"{run}: no such run directory{told}")
        opened = open_shared(run)
        read_config(opened)  # damaged, it is an artifact's error and not the user's
        path = opened.root / "config.yaml"
        with recalling(opened.meta.get("packages", {})):
            new = options.resolve_options(None, path, seeds, device, override, **given).config
    check_batch(new.train.batch_size, compiled=new.train.compile)
    return opened, new
