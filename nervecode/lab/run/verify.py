"""Verify: every file of a run against its hash in `meta.json`, and one digest of it all."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from nervecode.errors import ArtifactError
from nervecode.files import TEMPORARY, json_text, sha256
from nervecode.lab.run.directory import RunDir
from nervecode.lab.run.entries import entries
from nervecode.lab.run.meta import derived, hashes, lasting, seal
from nervecode.lab.run.paths import CACHE
from nervecode.lab.run.stale import stale_files

META = "meta.json"
LOGS = ("log.jsonl", "run.log")  # they grow with every event, and have no hash
LOCK = re.compile(r"\.lock(\.[0-9a-f]{16})?")
# What another moment, or another picture, changes in the metadata: no part of the digest.
PASSING = ("updated", "derived")

Kind = Literal["missing", "changed", "stale", "unexpected", "link"]


@dataclass(frozen=True)
class Fault:
    """A file that is not as the run wrote it, or follows from what is no longer there."""

    path: str
    kind: Kind


@dataclass(frozen=True)
class Verdict:
    """What `verify_run` found.

    Attributes:
        digest: one SHA-256 of every file that is there, of its name and of the metadata.
        derived: the same of pictures and pages alone, which only show what other files hold, and
            which are no part of the former.
        files: how many files were hashed.
        bytes: how large they are together.
        faults: in the order of their paths.
    """

    digest: str
    derived: str
    files: int
    bytes: int
    faults: tuple[Fault, ...]


def verify_run(run: RunDir) -> Verdict:
    """Hash every file of a run but its logs, and compare.

    Raises:
        ArtifactError: a file cannot be read.
    """
    known, replaced = hashes(run.meta), stale_files(run.meta)
    read: dict[str, str] = {}
    faults = [] if _meta_is_whole(run) else [Fault(META, "changed")]
    size = 0
    writing, own_hash = run.lock.is_held(), {META, *_resumed(run)}
    for path in entries(run.root):
        name = path.relative_to(run.root).as_posix()
        passing = LOCK.fullmatch(name) or (writing and TEMPORARY.fullmatch(path.name))
        if passing and not path.is_symlink():
            continue
        if path.is_symlink() or not path.is_file():
            faults.append(Fault(name, "link"))
            continue
        if name in own_hash or name in LOGS:
            continue
        read[name] = _hash(path)
        size += path.stat().st_size
        if name not in known:
            faults.append(Fault(name, "unexpected"))
        elif read[name] != known[name]:
            faults.append(Fault(name, "changed"))
        elif name in replaced:
            faults.append(Fault(name, "stale"))
    linked = {fault.path for fault in faults}
    needed = {name for name in known if not name.startswith(CACHE)}
    faults += [Fault(name, "missing") for name in needed - read.keys() - linked]
    faults.sort(key=lambda fault: fault.path)
    views = {name: digest for name, digest in read.items() if name in derived(run.meta)}
    own = {n: digest for n, digest in read.items() if n in lasting(run.meta) and n not in views}
    return Verdict(digest_of(own, run.meta), _digest(views), len(read), size, tuple(faults))


def digest_of(files: Mapping[str, str], meta: Mapping[str, Any]) -> str:
    """One SHA-256 for a run: that of the sorted lines `SHA-256  path`, as sha256sum prints them.

    The line of `meta.json` has the hash that it would carry of itself without `PASSING`, which no
    order of keys changes. Caches, the log and derived files are left out, so that a run, its
    archive, and the run with another picture have the same digest.
    """
    constant = {key: value for key, value in meta.items() if key not in PASSING}
    return _digest({**files, META: seal(constant)})


def _digest(files: Mapping[str, str]) -> str:
    lines = sorted(f"{digest}  {name}\n" for name, digest in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def require_whole(run: RunDir) -> Verdict:
    """The verdict on a run without a fault.

    Raises:
        ArtifactError: the run has faults; each is a line.
    """
    verdict = verify_run(run)
    if verdict.faults:
        lines = [f"{run.root / fault.path}: {fault.kind}" for fault in verdict.faults]
        raise ArtifactError("\n".join(lines))
    return verdict


def differences(
    saved: Iterable[Mapping[str, Any]], again: Iterable[Mapping[str, Any]], *, tolerance: float
) -> tuple[list[str], float]:
    """Compare rows with rows made again.

    Args:
        saved: the rows of the run.
        again: the rows of its repetition.
        tolerance: how far two figures may lie apart; 0 asks for the same bits.

    Returns:
        A line for each difference beyond the tolerance, and the largest difference of figures.
    """
    before, after = _by_cell(saved), _by_cell(again)
    lines = [f"{_cell(key)}: on one side only" for key in sorted(before.keys() ^ after.keys())]
    largest = 0.0
    for key in before.keys() & after.keys():
        for column in before[key]:
            first, second = before[key][column], after[key].get(column)
            if first == second:
                continue
            if isinstance(first, float) and isinstance(second, float):
                gap = abs(first - second)
                largest = max(largest, gap)
                if gap <= tolerance:
                    continue
            lines.append(f"{_cell(key)}: {column} was {first}, is {second}")
    return sorted(lines), largest


def _by_cell(rows: Iterable[Mapping[str, Any]]) -> dict[tuple[str, ...], Mapping[str, Any]]:
    return {tuple(str(row[key]) for key in ("seed", "ood", "method")): row for row in rows}


def _cell(key: tuple[str, ...]) -> str:
    return "seed {}, {}, {}".format(*key)


def _resumed(run: RunDir) -> list[str]:
    """What the trainings of a run that is not finished go on from, each with a hash of itself."""
    done = run.meta["status"] in ("complete", "gate_failed")
    paths = [] if done else [run.paths.resume(seed) for seed in run.meta["seeds"]]
    return [path.relative_to(run.root).as_posix() for path in paths]


def _meta_is_whole(run: RunDir) -> bool:
    """Whether every byte of `meta.json` is as it was written.

    Its hash of itself is of the values in it, and says nothing of the spaces between them.
    """
    text = (run.root / META).read_text(encoding="utf-8")
    return "sha256" in run.meta and text == json_text(json.loads(text))


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror})") from None
