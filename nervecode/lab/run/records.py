"""Records: of the stages of a run, dropped where they no longer hold, required, and entered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nervecode.errors import ArtifactError
from nervecode.files import sha256
from nervecode.lab.models.user_code import is_user_code
from nervecode.lab.run.commands import command
from nervecode.lab.run.meta import Meta, hashes, open_gate, without
from nervecode.lab.run.paths import GATE_FAILED, SHARED, stage_key

if TYPE_CHECKING:
    from nervecode.lab.run.directory import RunDir


def forget(run: RunDir, names: Collection[str], *stages: str, **values: Any) -> None:
    """Drop the hashes of files that are about to be written: shared ones, and of stages.

    A crash between a file and its hash then leaves a file without one, not one that looks damaged.
    Without the tables, the verdict of the gate is open. Further `values` enter the metadata.
    """
    files = {name: digest for name, digest in run.meta["files"].items() if name not in names}
    kept: Meta = {**without(run.meta, stages), "files": files}
    if "tables" in stages and "tables" in run.meta["stages"]:
        kept |= {"gate": open_gate(run.meta["gate"].get("required", 0.0)), "collapsed": {}}
    kept |= values
    if any(run.meta.get(key) != value for key, value in kept.items()):
        run.update(**kept)


def discard(run: RunDir, stages: Collection[str], **values: Any) -> None:
    """Drop stages with their files: what was made from, or shows, what is no longer there."""
    before = hashes(run.meta)
    forget(run, [GATE_FAILED] if "tables" in stages else [], *stages, **values)
    for name in before.keys() - hashes(run.meta).keys():
        (run.root / name).unlink(missing_ok=True)
    if stages:
        run.log("discard", stages=list(stages))


def require_stage(run: RunDir, name: str) -> None:
    """Refuse to go on before a stage is done for every seed of a run.

    Raises:
        ArtifactError: it is not; the command that does it is named.
    """
    for seed in run.config.seeds:
        if stage_key(name, seed) not in run.meta["stages"]:
            needed = is_user_code(run.config.model.name)  # trained with it or not
            does_it = command("bench", run.root, trust=needed)
            raise ArtifactError(
                f"{run.root}: stage {name!r} is not done for seed {seed}; `{does_it}` does it"
            )


def trained_on(meta: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    """The inputs of a training, with the rows of ID train.

    A record without these, as older releases left it, has those that its run was made with.
    """
    inputs: Mapping[str, Any] = meta["stages"][key]["inputs"]
    of_run = {k: rows for k, rows in meta.get("datasets", {}).items() if k == "id_train"}
    return {**of_run, **inputs}


def forget_damaged_stages(run: RunDir) -> list[str]:
    """Drop the record of every stage with a missing or damaged file; returns their names."""
    damaged = [name for name in SHARED if name in run.meta["files"] and not run.is_whole(name)]
    authors = {SHARED[name] for name in damaged}
    dropped = [
        key
        for key, record in (run.meta["stages"] | run.meta["derived"]).items()
        if key.partition("/")[0] in authors or not all(map(run.is_whole, record["outputs"]))
    ]
    forget(run, damaged, *dropped)
    return dropped


def derive(run: RunDir, path: Path) -> None:
    """Enter a picture or a page that was just made into a claimed run, and no other file."""
    name = path.relative_to(run.root).as_posix()
    records = dict(run.meta["derived"])
    authors = [key for key, record in records.items() if name in record["outputs"]]
    for key in authors or ["plot"]:
        record = records.get(key, {"inputs": None, "outputs": {}})
        records[key] = {**record, "outputs": {**record["outputs"], name: sha256(path)}}
    run.update(derived=records)
