"""Stage: one stage of a run, shown while it works and written to the run's log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nervecode.cli.log import logged
from nervecode.cli.options import command_line
from nervecode.cli.show import progress
from nervecode.cli.track import tracked

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir
    from nervecode.lab.schema import Config
    from nervecode.lab.stages.bench import Prepared


def do_stage(
    run: RunDir,
    prepared: Prepared,
    name: str,
    *,
    config: Config | None = None,
    track: Sequence[str] | None = None,
    **notes: Any,
) -> None:
    """Do the stage `name` for every seed; a run that fails in it says so.

    Another `config` than the run's takes its place first, and `notes` enter `meta.json`. The
    trackers named in `track` watch.
    """
    from nervecode.lab.stages.bench import guarded, run_stages

    def work() -> None:
        if config not in (None, run.config):
            run.replace_config(config)
        if notes:
            run.update(**notes)
        with (
            logged(run.root, command_line()),
            tracked(track, run) as tracking,
            progress(tracking) as shown,
        ):
            run_stages(run, prepared, (name,), progress=shown)

    guarded(run, work)
