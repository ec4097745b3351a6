"""A run that several processes work on: the first writes it, the others compute with it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nervecode.lab.ranks.job import current
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.meta import read_meta
from nervecode.lab.schema import Config

WORK, SKIP, DONE = "work", "skip", "done"


def open_shared(root: Path) -> RunDir:
    """A run as this process may use it: as its only writer, its first, or one that follows."""
    job = current()
    if job.world == 1:
        return RunDir(root)
    return LeadingRun(root) if job.leads else FollowingRun(root)


def create_shared(config: Config, parent: Path, *, command: str) -> RunDir:
    """Make the directory of a new run, once for all processes; they must all see its folder.

    Raises:
        InputError: it cannot be made, or another process does not see it.
    """
    job = current()
    if job.leads:
        kind = RunDir if job.world == 1 else LeadingRun
        run = kind.create(config, parent, command=command)
        job.share(str(run.root.absolute()))
        return run
    return FollowingRun(job.share(None))


class LeadingRun(RunDir):
    """The run on the first of several processes: what it decides, the others are told."""

    def stage(
        self, name: str, seed: int | None, inputs: Any, work: Callable[[], list[Path]]
    ) -> bool:
        """As `RunDir.stage`; a stage of the whole run, without a seed, is this process's alone."""
        if seed is None:
            return super().stage(name, seed, inputs, work)
        job = current()

        def announced() -> list[Path]:
            job.share(WORK)
            return work()

        done = super().stage(name, seed, inputs, announced)
        job.share(DONE if done else SKIP)
        return done

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """As `RunDir.claimed`, once all processes have read what they were started with."""
        current().meet()
        with super().claimed():
            yield


class FollowingRun(RunDir):
    """The run on any other process, which writes nothing into it."""

    def stage(
        self, name: str, seed: int | None, inputs: Any, work: Callable[[], list[Path]]
    ) -> bool:
        """Take part in a stage, if the first process does it; returns whether it was done now."""
        job = current()
        due: bool = job.share(None) == WORK
        if due:
            work()
            job.share(None)
        self.meta = read_meta(self.root / "meta.json")
        return due

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """The first process claims the run."""
        current().meet()
        yield

    def update(self, **values: Any) -> None:
        """The first process does it."""

    def log(self, event: str, **values: Any) -> None:
        """The first process does it."""

    def replace_config(self, config: Config) -> None:
        """Go on with another config, which the first process writes."""
        self.__dict__["config"] = config
