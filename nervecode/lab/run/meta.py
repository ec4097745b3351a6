"""Meta: what `meta.json` holds, what it must hold to be read, and its hash of itself."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, ValidationError

from nervecode import __version__
from nervecode.errors import ArtifactError
from nervecode.files import read_json, sha256
from nervecode.lab.config.packages import packages
from nervecode.lab.machine.provenance import provenance
from nervecode.lab.run.paths import CACHE, SHARED
from nervecode.lab.schema import PRIMARY, Config
from nervecode.lab.schema.validation import first_problem

SCHEMA_VERSION = 1
ADDED = "added"  # in the record of a calibration: of which run's it was made, and how

Meta = dict[str, Any]
Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class _Stage(BaseModel):
    inputs: Any
    outputs: dict[str, Hash]
    made_with: dict[str, Any] = {}
    adopted_from: list[dict[str, Any]] = []


class _Gate(BaseModel):
    required: float = 0.0
    passed: bool | None
    accuracy: dict[str, float] = {}


class _Package(BaseModel):
    package: str
    version: str
    sha256: Hash | None


class _Shape(BaseModel):
    """The keys that every reader of a run relies on; there may be more."""

    schema_version: Literal[1]
    status: str
    seeds: Annotated[list[int], Field(min_length=1)]
    gate: _Gate
    stages: dict[str, _Stage]
    derived: dict[str, _Stage] = {}
    files: dict[str, Hash]
    datasets: dict[str, str] = {}
    classes: list[int | str] = []
    input_shape: list[Annotated[int, Field(ge=1)]] = []
    ood_groups: dict[str, str] = {}
    split_sizes: dict[str, int] = {}
    packages: dict[str, _Package] = {}


def read_meta(path: Path) -> Meta:
    """The metadata of a run.

    Raises:
        ArtifactError: the file is missing, damaged, or not the metadata of a run; or it names a
            file outside the run.
    """
    meta = read_json(path)
    try:
        shape = _Shape.model_validate(meta)
    except ValidationError as error:
        raise ArtifactError(f"{path}: not the metadata of a run ({first_problem(error)})") from None
    if "sha256" in meta and meta["sha256"] != seal(meta):
        raise ArtifactError(f"{path}: is damaged (its SHA-256 of itself is another)")
    for name in [
        *shape.files,
        *(n for s in (*shape.stages.values(), *shape.derived.values()) for n in s.outputs),
    ]:
        check_name(name, path)
    return {"derived": {}, **meta}


def hashes(meta: Mapping[str, Any]) -> dict[str, str]:
    """Path -> SHA-256 of every file that a run has written, caches and derived files too."""
    return {**meta["files"], **_outputs(meta["stages"]), **derived(meta)}


def derived(meta: Mapping[str, Any]) -> dict[str, str]:
    """Path -> SHA-256 of pictures and pages, which only show what other files hold."""
    return _outputs(meta["derived"])


def user_code(meta: Mapping[str, Any]) -> dict[str, str] | None:
    """The file and SHA-256 of the user's code that a run was trained with; None without any."""
    trained = (s["inputs"] for key, s in meta["stages"].items() if key.startswith("train/"))
    codes = [inputs["code"] for inputs in trained if "code" in (inputs or {})]
    return codes[0] if codes else None


def serves_score(meta: Mapping[str, Any]) -> str | None:
    """Why a run has no benchmark whose calibration was made from another's; None for others."""
    made = (s["inputs"] for key, s in meta["stages"].items() if key.startswith("calibrate/"))
    origin = next((inputs[ADDED] for inputs in made if ADDED in (inputs or ())), None)
    if origin is None:
        return None
    what = "its calibration was made exact"
    if "inputs" in origin:
        what = "inputs were added to its calibration"
    return f"{what}, so that it serves `nervecode score`; the benchmark is that of {origin['run']}"


def lasting(meta: Mapping[str, Any]) -> dict[str, str]:
    """Path -> SHA-256 of the shared files of a run, and of the outputs of its stages but caches."""
    outputs = _outputs(meta["stages"])
    shared = {name: digest for name, digest in meta["files"].items() if name in SHARED}
    return shared | {n: digest for n, digest in outputs.items() if not n.startswith(CACHE)}


def _outputs(records: Mapping[str, Any]) -> dict[str, str]:
    return {n: digest for record in records.values() for n, digest in record["outputs"].items()}


def sealed(meta: Meta) -> Meta:
    """The metadata as they are written: plain JSON values, with a hash of themselves."""
    plain: Meta = json.loads(json.dumps(meta))
    return {**plain, "sha256": seal(plain)}


def stage_record(root: Path, inputs: Any, outputs: Iterable[Path]) -> dict[str, Any]:
    """What `meta.json` says of a stage that has just been done."""
    return {
        "inputs": inputs,
        "outputs": {path.relative_to(root).as_posix(): sha256(path) for path in outputs},
        "finished": now(),
        "writer": f"nervecode {__version__}",
    }


def without(meta: Mapping[str, Any], keys: Collection[str]) -> dict[str, dict[str, Any]]:
    """The records of both groups of stages but for some."""
    return {
        group: {key: record for key, record in meta[group].items() if key not in keys}
        for group in ("stages", "derived")
    }


def seal(meta: Meta) -> str:
    """SHA-256 of metadata without their own hash; the order of keys does not matter."""
    rest = {key: value for key, value in meta.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def check_name(name: str, source: Path) -> None:
    """Refuse a path that may lead out of the run.

    Raises:
        ArtifactError: it is absolute, climbs, or is not written plainly.
    """
    plain = PurePosixPath(name)
    if plain.is_absolute() or ".." in plain.parts or str(plain) != name or "\\" in name:
        raise ArtifactError(f"{source}: found the path {name!r}, allowed: files inside the run")


def first_meta(config: Config, run_id: str, command: str) -> Meta:
    """The metadata of a run that has just been made."""
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": run_id,
        "name": config.name,
        "status": "running",
        "command": command,
        "created": now(),
        "updated": now(),
        **labels(config, {}),
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
        "gate": open_gate(config.bench.accuracy_gate),
        "stages": {},
        "derived": {},
        "files": {},
        **provenance(),
    }


def open_gate(required: float) -> Meta:
    """The verdict of an accuracy gate before anything was scored."""
    return {"required": required, "passed": None, "accuracy": {}}


def labels(config: Config, before: Meta) -> Meta:
    """What a config says of how its figures are to be read, and of the packages behind its names.

    Args:
        config: of the run.
        before: the metadata of the run; the packages that it was made with stay.
    """
    recipe = config.signals[PRIMARY].recipe
    used, known = packages(config.model_dump()), before.get("packages", {})
    behind = {name: known.get(name, about) for name, about in used.items()}
    told = {"packages": behind} if behind or known else {}
    return {"demo": config.demo, "transfer": config.transferred, "recipe": recipe, **told}


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
