"""RunDir: the paths, the metadata and the stages of one run. Run paths are built here alone."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean
from nervecode.lab.config import dump_config, load_config
from nervecode.lab.files import read_json, sha256, write_json, write_text
from nervecode.lab.lock import Lock
from nervecode.lab.provenance import provenance
from nervecode.lab.schema import PRIMARY, Config

SCHEMA_VERSION = 1
SHARED_FILES = (
    "config.yaml", "checkpoints/checkpoint_manifest.json", "DEMO_MODE.txt", "GATE_FAILED.txt",
)  # fmt: skip


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
        self.meta: dict[str, Any] = read_json(self.root / "meta.json")
        if not isinstance(self.meta, dict) or self.meta.get("schema_version") != SCHEMA_VERSION:
            raise ArtifactError(f"{self.root / 'meta.json'}: not the metadata of a run")

    @classmethod
    def create(cls, config: Config, parent: Path, *, command: str) -> RunDir:
        """Make the directory of a new run, with a readable name that no other run has.

        The name's random part is the system's own, so that equal seeds do not collide.
        """
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
        root = Path(parent) / f"{config.name}-{stamp}-{secrets.token_hex(3)}"
        try:
            root.mkdir(parents=True)
        except OSError as error:
            raise InputError(f"{root}: cannot be made ({error.strerror})") from None
        _write_config(root, config)
        write_json(root / "meta.json", _first_meta(config, root.name, command))
        return cls(root)

    @property
    def lock(self) -> Lock:
        """Who is writing to the run."""
        return Lock(self.root / ".lock")

    # Paths

    @cached_property
    def config(self) -> Config:
        """The resolved config of the run."""
        path = self.root / "config.yaml"
        try:
            return load_config(path)
        except InputError as error:
            raise ArtifactError(f"{path}: is missing or damaged ({error})") from None

    def checkpoint(self, seed: int) -> Path:
        """Weights of the classifier and of learned codebooks."""
        return self.root / "checkpoints" / f"seed_{seed}.safetensors"

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
        """Write new metadata; `meta.json` is always the last file to be written."""
        self.meta = {**self.meta, **values, "updated": _now()}
        self.meta["files"] = self._files() | self._shared_files()
        write_json(self.root / "meta.json", self.meta)

    def replace_config(self, config: Config) -> None:
        """Take another config, and the metadata that follows from it."""
        _write_config(self.root, config)
        self.__dict__["config"] = config
        self.update(seeds=list(config.seeds), demo=config.demo)

    def log(self, event: str, **values: Any) -> None:
        """Append one event to `log.jsonl`."""
        line = json.dumps({"time": _now(), "event": event, **values}, ensure_ascii=False)
        with (self.root / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def _files(self) -> dict[str, str]:
        """Path -> SHA-256 of everything that stages have written."""
        stages: Mapping[str, Any] = self.meta["stages"]
        return {path: digest for s in stages.values() for path, digest in s["outputs"].items()}

    def _shared_files(self) -> dict[str, str]:
        """Path -> SHA-256 of the files that belong to no stage alone."""
        paths = [self.root / name for name in SHARED_FILES]
        return {str(p.relative_to(self.root)): sha256(p) for p in paths if p.is_file()}

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
                self.verified(self.root / path)
            self.log("skip", stage=key)
            return False
        self.log("start", stage=key)
        outputs = {str(p.relative_to(self.root)): sha256(p) for p in work()}
        record = {"inputs": inputs, "outputs": outputs, "finished": _now()}
        self.update(stages={**self.meta["stages"], key: record})
        self.log("done", stage=key)
        return True

    def verified(self, path: Path) -> Path:
        """A file that a stage wrote, if its bytes are still those that were written.

        Raises:
            ArtifactError: the file is missing, changed, or was never written by a stage.
        """
        name = str(path.relative_to(self.root))
        known = self._files().get(name)
        if known is None or not path.is_file():
            raise ArtifactError(f"{path}: is missing; {self._repair_hint()}")
        if sha256(path) != known:
            raise ArtifactError(
                f"{path}: is damaged (its SHA-256 is not the one in meta.json); "
                f"{self._repair_hint()}"
            )
        return path

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
        dropped = []
        for key, stage in list(self.meta["stages"].items()):
            paths = [(self.root / name, digest) for name, digest in stage["outputs"].items()]
            if not all(path.is_file() and sha256(path) == digest for path, digest in paths):
                dropped.append(key)
        stages = {k: s for k, s in self.meta["stages"].items() if k not in dropped}
        self.update(stages=stages)
        return dropped

    def _repair_hint(self) -> str:
        return f"`nervecode bench {self.root} --repair` makes it again"

    # One writer

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Write to the run within the block; one process at a time.

        Raises:
            NervecodeError: another process is writing.
        """
        if self.lock.is_stale():
            self.log("takeover", owner=self.lock.owner())
            self.lock.release()
        try:
            self.lock.take()
        except FileExistsError:
            raise NervecodeError(f"{self.root}: {self.lock.owner()} is writing to it") from None
        except OSError as error:
            raise NervecodeError(f"{self.root}: cannot be written ({error.strerror})") from None
        try:
            yield
        finally:
            self.lock.release()


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


def _first_meta(config: Config, run_id: str, command: str) -> dict[str, Any]:
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "name": config.name,
        "status": "running",
        "command": command,
        "created": _now(),
        "updated": _now(),
        "demo": config.demo,
        "seeds": list(config.seeds),
        "primary_method": PRIMARY,
        "unit": "bits",
        "higher_is_ood": True,
        "fitted_on": {
            "classifier": "id_train",
            "codebooks": "id_train",
            "detectors": "id_train",
            "normalisation, thresholds, combinations": "id_calibration",
            "metrics": "id_test and OOD sets",
        },
        "gate": {"required": config.bench.accuracy_gate, "passed": None, "accuracy": {}},
        "stages": {},
        "files": {},
        **provenance(),
    }


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _neighbours(root: Path) -> str:
    parent = root.parent
    names = [path.parent.name for path in parent.glob("*/meta.json")]
    return did_you_mean(root.name, sorted(names)[-20:])
