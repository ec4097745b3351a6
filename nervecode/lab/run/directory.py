"""RunDir: the paths, the metadata and the stages of one run. Run paths are built here alone."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from nervecode import __version__
from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean
from nervecode.files import TEMPORARY, sha256, write_json, write_text
from nervecode.lab.config.stored import dump_config, load_config
from nervecode.lab.run.lock import Lock, Owner, name_of
from nervecode.lab.run.meta import SCHEMA_VERSION as SCHEMA_VERSION
from nervecode.lab.run.meta import Meta, first_meta, now, read_meta, sealed
from nervecode.lab.schema import Config

MANIFEST = "checkpoints/checkpoint_manifest.json"
# Files that a run writes more than once -> the stage that does.
SHARED = {"config.yaml": "", "DEMO_MODE.txt": "", MANIFEST: "train", "GATE_FAILED.txt": "tables"}
CACHE = ("features/", "resume/")  # what lies there may be gone, but not changed


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
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        root = Path(parent) / (name or f"{config.name}-{stamp}-{secrets.token_hex(3)}")
        if name is not None and (root / "meta.json").exists():
            return cls(root)
        try:
            root.mkdir(parents=True, exist_ok=name is not None)
        except OSError as error:
            raise InputError(f"{root}: cannot be made ({error.strerror})") from None
        _write_config(root, config)
        meta = first_meta(config, root.name, command) | {"files": _hashes(root, list(SHARED))}
        write_json(root / "meta.json", sealed(meta))
        return cls(root)

    # Paths

    @cached_property
    def config(self) -> Config:
        """The resolved config of the run."""
        path = self.root / "config.yaml"
        if self.recorded(path) and self._is_bad("config.yaml"):
            raise ArtifactError(
                f"{path}: is missing or damaged (its SHA-256 is not the one in meta.json); "
                "put a copy back, or begin a new run"
            )
        try:
            return load_config(path)
        except InputError as error:
            raise ArtifactError(f"{path}: is missing or damaged ({error})") from None

    def checkpoint(self, seed: int) -> Path:
        """Weights of the classifier and of learned codebooks."""
        return self.root / "checkpoints" / f"seed_{seed}.safetensors"

    def resume(self, seed: int) -> Path:
        """A training after its last epoch; gone when the training is done."""
        return self.root / "resume" / f"seed_{seed}.safetensors"

    def calibration(self, seed: int) -> Path:
        """Fitted codes and calibration scores of every signal."""
        return self.root / "calibration" / f"seed_{seed}.safetensors"

    def features(self, seed: int, split: str) -> Path:
        """Cached logits and features of a split."""
        return self.root / "features" / f"seed_{seed}" / f"{split}.safetensors"

    def layerwise(self, seed: int, split: str) -> Path:
        """Surprise per layer of a split."""
        return self.root / "layerwise" / f"seed_{seed}" / f"{split}.npz"

    def scores(self, seed: int, split: str) -> Path:
        """Scores of every method on a split."""
        return self.root / "scores" / f"seed_{seed}" / f"{split}.npz"

    def failures(self, seed: int) -> Path:
        """Method -> reason, for the baselines that failed."""
        return self.root / "scores" / f"seed_{seed}" / "failures.json"

    def metrics(self, seed: int) -> Path:
        """Training metrics per epoch."""
        return self.root / "metrics" / f"seed_{seed}.csv"

    def diagnostics(self, seed: int) -> Path:
        """Codebook diagnostics per layer and epoch."""
        return self.root / "diagnostics" / f"seed_{seed}.csv"

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
        shared = {name: digest for name, digest in meta["files"].items() if name in SHARED}
        lasting = {n: d for n, d in self._outputs(meta).items() if not n.startswith(CACHE)}
        self.meta = sealed({**meta, "files": shared | lasting})
        write_json(self.root / "meta.json", self.meta)

    def replace_config(self, config: Config) -> None:
        """Take another config, and the metadata that follows from it."""
        names = [name for name, stage in SHARED.items() if not stage]
        self._forget(names)
        _write_config(self.root, config)
        self.__dict__["config"] = config
        files = self.meta["files"] | _hashes(self.root, names)
        self.update(seeds=list(config.seeds), demo=config.demo, files=files)

    def log(self, event: str, **values: Any) -> None:
        """Append one event to `log.jsonl`.

        Raises:
            NervecodeError: the file cannot be written.
        """
        line = json.dumps({"time": now(), "event": event, **values}, ensure_ascii=False)
        path = self.root / "log.jsonl"
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")
        except OSError as error:
            raise NervecodeError(f"{path}: cannot be written ({error.strerror})") from error

    @staticmethod
    def _outputs(meta: Meta) -> dict[str, str]:
        """Path -> SHA-256 of everything that stages have written."""
        return {
            n: digest for stage in meta["stages"].values() for n, digest in stage["outputs"].items()
        }

    def _forget(self, names: list[str], stage: str = "") -> None:
        """Drop the hashes of files that are about to be written: shared ones, and a stage's.

        A crash between a file and its hash then leaves a file without one, not one that looks
        damaged.
        """
        files = {name: digest for name, digest in self.meta["files"].items() if name not in names}
        stages = {key: one for key, one in self.meta["stages"].items() if key != stage}
        if files != self.meta["files"] or stages != self.meta["stages"]:
            self.update(files=files, stages=stages)

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
        key = name if seed is None else f"{name}/seed_{seed}"
        inputs = json.loads(json.dumps(inputs))
        done = self.meta["stages"].get(key)
        if done is not None and done["inputs"] == inputs:
            for path in done["outputs"]:
                self._verified_unless_tidied(self.root / path)
            self.log("skip", stage=key)
            return False
        self.log("start", stage=key)
        shared = [path for path, stage in SHARED.items() if stage == name]
        for path in shared:
            if path in self.meta["files"]:
                self.verified(self.root / path)
        self._forget(shared, key)
        outputs = {p.relative_to(self.root).as_posix(): sha256(p) for p in work()}
        record = {
            "inputs": inputs,
            "outputs": outputs,
            "finished": now(),
            "writer": f"nervecode {__version__}",
        }
        files = self.meta["files"] | _hashes(self.root, shared)
        self.update(stages={**self.meta["stages"], key: record}, files=files)
        for path in done["outputs"] if done else ():
            if not self.recorded(self.root / path):  # as of a set that is no longer asked for
                (self.root / path).unlink(missing_ok=True)
        self.log("done", stage=key)
        return True

    def recorded(self, path: Path) -> str | None:
        """The SHA-256 of a file when it was written; None for a file that the run did not write."""
        known: dict[str, str] = self.meta["files"] | self._outputs(self.meta)
        return known.get(path.relative_to(self.root).as_posix())

    def verified(self, path: Path) -> Path:
        """A file that the run wrote, if its bytes are still those that were written.

        Raises:
            ArtifactError: the file is missing, changed, a link, or was never written by the run.
        """
        known = self.recorded(path)
        if known is None or not (path.is_file() or path.is_symlink()):
            raise ArtifactError(f"{path}: is missing; {self._repair_hint()}")
        for part in [path, *path.parents][: len(path.relative_to(self.root).parts)]:
            if part.is_symlink():
                raise ArtifactError(f"{part}: is a link; a run is made of files of its own")
        if sha256(path) != known:
            raise ArtifactError(
                f"{path}: is damaged (its SHA-256 is not the one in meta.json); "
                f"{self._repair_hint()}"
            )
        return path

    def _verified_unless_tidied(self, path: Path) -> None:
        if path.exists() or not path.relative_to(self.root).as_posix().startswith(CACHE):
            self.verified(path)

    def require_stage(self, name: str) -> None:
        """Refuse to go on before a stage is done for every seed.

        Raises:
            ArtifactError: it is not; the command that does it is named.
        """
        for seed in self.config.seeds:
            if f"{name}/seed_{seed}" not in self.meta["stages"]:
                raise ArtifactError(
                    f"{self.root}: stage {name!r} is not done for seed {seed}; "
                    f"`nervecode bench {self.root}` does it"
                )

    def forget_damaged_stages(self) -> list[str]:
        """Drop the record of every stage with a missing or damaged file; returns their names."""
        damaged = [name for name in SHARED if name in self.meta["files"] and self._is_bad(name)]
        authors = {SHARED[name] for name in damaged}
        dropped = [
            key
            for key, stage in self.meta["stages"].items()
            if key.partition("/")[0] in authors or any(map(self._is_bad, stage["outputs"]))
        ]
        stages = {k: s for k, s in self.meta["stages"].items() if k not in dropped}
        files = {name: d for name, d in self.meta["files"].items() if name not in damaged}
        self.update(stages=stages, files=files)
        return dropped

    def _is_bad(self, name: str) -> bool:
        try:
            self._verified_unless_tidied(self.root / name)
        except ArtifactError:
            return True
        return False

    def absent(self, path: Path) -> ArtifactError:
        """What to raise where a file is missing: it names the command that makes it."""
        repair = " --repair" if self.recorded(path) else ""  # it was there, and is gone
        return ArtifactError(f"{path}: is missing; `nervecode bench {self.root}{repair}` makes it")

    def _repair_hint(self) -> str:
        return f"`nervecode bench {self.root} --repair` makes it again"

    # One writer

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Write to the run within the block; one process at a time.

        Raises:
            NervecodeError: another process is writing.
        """
        try:
            gone = self.lock.take()
        except FileExistsError:
            raise NervecodeError(f"{self.root}: {self.lock.owner()} is writing to it") from None
        except OSError as error:
            raise NervecodeError(f"{self.root}: cannot be written ({error.strerror})") from None
        try:
            with self.lock.beating():
                self._begin(gone)
                yield
        finally:
            self.lock.release()

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Claim the run within the block, and enter the pictures that it drew into `plots/`."""
        with self.claimed():
            yield
            for path in sorted((self.root / "plots").glob("*")):
                if self.recorded(path) != sha256(path):
                    self._record(path)

    def _record(self, path: Path) -> None:
        """Enter a file that was written outside of the stages, or again."""
        name, digest = path.relative_to(self.root).as_posix(), sha256(path)
        stages = dict(self.meta["stages"])
        authors = [key for key, stage in stages.items() if name in stage["outputs"]] or ["plot"]
        for key in authors:
            stage = stages.get(key, {"inputs": None, "outputs": {}})
            stages[key] = {**stage, "outputs": {**stage["outputs"], name: digest}}
        self.update(stages=stages)

    def _begin(self, gone: Owner | None) -> None:
        """Read what the last writer left, and tidy away what it did not finish."""
        self.meta = read_meta(self.root / "meta.json")
        self.__dict__.pop("config", None)
        if gone is not None:
            self.log("takeover", owner=name_of(gone))
        for path in entries(self.root):
            if path.is_symlink():
                raise ArtifactError(f"{path}: is a link; a run is made of files of its own")
            if TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


def entries(root: Path) -> Iterator[Path]:
    """Everything below a folder but its folders; a link is one entry, wherever it leads."""
    for folder, folders, files in os.walk(root):
        found = [Path(folder) / name for name in folders + files]
        yield from (path for path in found if path.is_symlink() or not path.is_dir())


def list_runs(parent: Path) -> list[RunDir]:
    """The runs below a folder, oldest first; what is not a run is left out."""
    found = []
    for path in sorted(parent.glob("*/meta.json")):
        try:
            found.append(RunDir(path.parent))
        except NervecodeError:
            continue
    return sorted(found, key=lambda run: str(run.meta.get("created", "")))


def _write_config(root: Path, config: Config) -> None:
    header = f"nervecode bench --config {root / 'config.yaml'}"
    write_text(root / "config.yaml", dump_config(config, header=header))
    if config.demo:
        write_text(root / "DEMO_MODE.txt", "A demonstration: its figures claim nothing.\n")


def _hashes(root: Path, names: list[str]) -> dict[str, str]:
    """Name -> SHA-256 of those files that are there."""
    return {name: sha256(root / name) for name in names if (root / name).is_file()}


def _neighbours(root: Path) -> str:
    parent = root.parent
    names = [path.parent.name for path in parent.glob("*/meta.json")]
    return did_you_mean(root.name, sorted(names)[-20:])
