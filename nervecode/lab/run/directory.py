"""RunDir: the files, the metadata and the stages of one run, and its one writer."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean, one_line
from nervecode.files import append_line, read_npz, sha256, write_json
from nervecode.lab.config.stored import config_hash
from nervecode.lab.machine.interrupt import raise_swallowed
from nervecode.lab.run.commands import command
from nervecode.lab.run.config_file import read_config, write_config
from nervecode.lab.run.entries import refuse_links, tidy
from nervecode.lab.run.lock import Lock, name_of
from nervecode.lab.run.meta import (
    Meta,
    first_meta,
    hashes,
    labels,
    lasting,
    now,
    open_gate,
    read_meta,
    sealed,
    serves_score,
    stage_record,
    user_code,
)
from nervecode.lab.run.paths import CACHE, DEMO, DERIVED, SHARED, RunPaths, stage_key
from nervecode.lab.run.records import discard, forget
from nervecode.lab.run.stale import figures, shown_in, stale, stale_files
from nervecode.lab.schema import Config


class RunDir:
    """A run directory. `create` makes one, `RunDir(path)` opens one for reading.

    Raises:
        InputError: no such directory.
        ArtifactError: the directory is not a run, or is half-written.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise InputError(f"{self.root}: no such run directory; {_neighbours(self.root)}")
        self.paths = RunPaths(self.root)
        self.meta: Meta = read_meta(self.root / "meta.json")
        self.lock = Lock(self.root / ".lock")

    @classmethod
    def create(
        cls, config: Config, parent: Path, *, command: str, name: str | None = None
    ) -> RunDir:
        """Make the directory of a new run, with a readable name that no other run has.

        The name's random part is the system's own, so that equal seeds do not collide. A run whose
        `name` is given is opened where it is there, and made anew where its making was cut short.
        """
        root = Path(parent) / (name or _new_name(config))
        if name is None or not (root / "meta.json").exists():
            _make(root, config, command, exist_ok=name is not None)
        return cls(root)

    @property
    def home(self) -> Path:
        """The directory itself, where `root` is a link to it or `.`."""
        return self.root.resolve()

    @cached_property
    def config(self) -> Config:
        """The resolved config of the run, raises as `read_config`."""
        return read_config(self)

    def command(self, name: str, *options: object) -> str:
        """A command that works on the run, as messages name it."""
        return command(name, self.root, *options, trust=user_code(self.meta) is not None)

    def recorded(self, path: Path) -> str | None:
        """The SHA-256 of a file when it was written; None for a file that the run did not write."""
        return hashes(self.meta).get(path.relative_to(self.root).as_posix())

    def verified(self, path: Path) -> Path:
        """A file that the run wrote, if its bytes are still those that were written.

        Raises:
            ArtifactError: the file is missing, changed, stale, a link, or not of the run.
        """
        known = self.recorded(path)
        if known is None or not (path.is_file() or path.is_symlink()):
            raise self.absent(path)
        refuse_links(path, self.root)
        if sha256(path) != known:
            raise ArtifactError(
                f"{path}: is damaged (its SHA-256 is not the one in meta.json); "
                f"`{self.command('bench', '--repair')}` makes it again"
            )
        if path.relative_to(self.root).as_posix() in stale_files(self.meta):
            raise ArtifactError(
                f"{path}: is stale (what it was made from has since been replaced); "
                f"`{self.command('bench')}` makes it again"
            )
        return path

    def arrays(self, path: Path) -> dict[str, np.ndarray]:
        """The arrays of an `.npz` file; raises as `verified`."""
        return read_npz(self.verified(path))

    def absent(self, path: Path) -> ArtifactError:
        """What to raise where a file is missing: it names the command that makes it."""
        repair = ["--repair"] if self.recorded(path) else []  # it was there, and is gone
        if not repair and (why := serves_score(self.meta)):
            return ArtifactError(f"{self.root}: has no {path.name}: {why}")
        return ArtifactError(f"{path}: is missing; `{self.command('bench', *repair)}` makes it")

    def is_whole(self, name: str) -> bool:
        """Whether a file is as it was written, or a cache that was tidied away."""
        path = self.root / name
        try:
            return (name.startswith(CACHE) and not path.exists()) or bool(self.verified(path))
        except ArtifactError:
            return False

    # Metadata

    @property
    def status(self) -> str:
        """What `meta.json` says; a run whose writer is gone is interrupted, not running."""
        status = str(self.meta["status"])
        return "interrupted" if status == "running" and not self.lock.is_held() else status

    def update(self, **values: Any) -> None:
        """Write new metadata; `meta.json` is always the last file to be written.

        Raises:
            NervecodeError: they cannot be written, or another process has taken over the run.
        """
        if self.lock.is_lost():
            raise NervecodeError(f"{self.root}: {self.lock.owner()} has taken it over")
        meta = {**self.meta, **values, "updated": now()}
        self.meta = sealed({**meta, "files": lasting(meta)})
        write_json(self.root / "meta.json", self.meta)

    def replace_config(self, config: Config) -> None:
        """Take another config, and the metadata that follows from it; figures of the former go."""
        if (config_hash(config), config.seeds) != (config_hash(self.config), self.config.seeds):
            discard(self, figures(self.meta), gate=open_gate(config.bench.accuracy_gate))
        if not config.demo and self.recorded(self.root / DEMO):
            (self.root / DEMO).unlink(missing_ok=True)
        forget(self, [name for name, stage in SHARED.items() if not stage])
        files = self.meta["files"] | _hashes(self.root, write_config(self.root, config))
        self.__dict__["config"] = config
        self.update(seeds=list(config.seeds), files=files, **labels(config, self.meta))

    def log(self, event: str, **values: Any) -> None:
        """Append one event to `log.jsonl`.

        Raises:
            NervecodeError: the file cannot be written.
        """
        line = json.dumps({"time": now(), "event": event, **values}, ensure_ascii=False)
        append_line(self.root / "log.jsonl", line)

    # Stages

    def stage(
        self, name: str, seed: int | None, inputs: Any, work: Callable[[], list[Path]]
    ) -> bool:
        """Do a stage, or skip it if it is done already with the same inputs.

        Args:
            name: `train`, `calibrate`, `score`, ….
            seed: the seed, or None for a stage of the whole run.
            inputs: plain values; the stage is repeated when they change.
            work: does the work and returns the files that it wrote.

        Returns:
            Whether the work was done now.

        Raises:
            ArtifactError: the stage is done, but a file that it wrote is missing or damaged.
        """
        raise_swallowed()
        key = name if seed is None else stage_key(name, seed)
        group = "derived" if name in DERIVED else "stages"
        inputs = json.loads(json.dumps(inputs))
        before = self.meta[group].get(key, {"inputs": None, "outputs": {}})
        if key in self.meta[group] and before["inputs"] == inputs:
            for path in before["outputs"]:
                if not self.is_whole(path):
                    self.verified(self.root / path)
            self.log("skip", stage=key)
            return False
        self.log("start", stage=key)
        shared = [path for path, author in SHARED.items() if author == name]
        for path in filter(self.meta["files"].__contains__, shared):
            self.verified(self.root / path)
        discard(self, shown_in(self.meta, key))
        forget(self, shared, key)
        record = stage_record(self.root, inputs, work())
        files = self.meta["files"] | _hashes(self.root, shared)
        self.update(**{group: {**self.meta[group], key: record}}, files=files)
        for path in before["outputs"].keys() - hashes(self.meta).keys():
            (self.root / path).unlink(missing_ok=True)  # as of a set that is no longer asked for
        discard(self, stale(self.meta))
        self.log("done", stage=key)
        return True

    # One writer

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Write to the run within the block; one process at a time.

        Raises:
            NervecodeError: another process is writing, or the folder cannot be written.
        """
        with self.lock.held("is writing to it") as gone:
            self.meta = read_meta(self.root / "meta.json")
            self.__dict__.pop("config", None)
            if gone is not None:
                self.log("takeover", owner=name_of(gone))
            tidy(self.root)
            yield


def chosen_seed(run: RunDir, seed: int | None, option: str = "--seed") -> int:
    """A seed of a run; None takes the first.

    Raises:
        InputError: a seed that the run does not have, named as its `option`.
    """
    seeds: list[int] = run.meta["seeds"]
    chosen = seeds[0] if seed is None else seed
    if chosen not in seeds:
        raise InputError(f"{option}: found {chosen}, allowed: {', '.join(map(str, seeds))}")
    return chosen


def list_runs(parent: Path) -> list[RunDir]:
    """The runs below a folder, oldest first; those that are damaged are left out."""
    return whole_and_damaged(parent)[0]


def whole_and_damaged(parent: Path) -> tuple[list[RunDir], dict[str, str]]:
    """The runs below a folder, oldest first; and the names of damaged ones, with why."""
    runs, damaged = [], {}
    for path in sorted(parent.glob("*/meta.json")):
        try:
            runs.append(RunDir(path.parent))
        except NervecodeError as error:
            damaged[path.parent.name] = one_line(error)
    return sorted(runs, key=lambda run: str(run.meta.get("created", ""))), damaged


def _new_name(config: Config) -> str:
    return f"{config.name}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _make(root: Path, config: Config, command: str, *, exist_ok: bool) -> None:
    try:
        root.mkdir(parents=True, exist_ok=exist_ok)
    except OSError as error:
        raise InputError(f"{root}: cannot be made ({error.strerror})") from None
    written = write_config(root, config)
    meta = first_meta(config, root.name, command) | {"files": _hashes(root, written)}
    write_json(root / "meta.json", sealed(meta))


def _hashes(root: Path, names: list[str]) -> dict[str, str]:
    """Name -> SHA-256 of those files that are there."""
    return {name: sha256(root / name) for name in names if (root / name).is_file()}


def _neighbours(root: Path) -> str:
    parent = root.parent
    names = [path.parent.name for path in parent.glob("*/meta.json")]
    if not names:
        return f"{parent} holds no run"
    return did_you_mean(root.name, sorted(names)[-20:])
