"""Names: what files and tables call the OOD sets of a config."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from pathlib import Path
from unicodedata import normalize

from nervecode.errors import InputError
from nervecode.lab.schema import PATHS, DataConfig

LONGEST = 150  # bytes: a file system takes 255, of which a run adds some


def set_names(config: DataConfig) -> dict[str, str]:
    """Spec of each OOD set -> its name: `rotate:45` is `rotate_45`, `folder:A/b` is `folder_b`.

    Folders and files of one name take the names of those above them, until they differ. What is
    too long, or the same all the same, ends with a hash of its spec.

    Raises:
        InputError: held-out classes that are given once more by their numbers.
    """
    specs = [*config.near, *config.far, *config.shift]
    held_out = f"{config.id}:{_classes(config)}"
    if {"held_out", held_out} <= set(specs):
        raise InputError(f"data: the OOD sets 'held_out' and {held_out!r} are the same")
    parts = dict.fromkeys(specs, 1)
    while True:
        names = {spec: set_name(spec, config, parts=parts[spec]) for spec in specs}
        counts = Counter(names.values())
        deeper = [s for s in specs if counts[names[s]] > 1 and parts[s] < len(_parts(s))]
        if not deeper:
            break
        for spec in deeper:
            parts[spec] += 1
    return {spec: _own(name, spec, counts[name]) for spec, name in names.items()}


def set_name(spec: str, config: DataConfig, *, parts: int = 1) -> str:
    """A name fit for files and tables; of a path, made of so many of its last parts."""
    if spec == "held_out":
        spec = f"{set_name(config.id, config)}:{_classes(config)}"
    if path := _parts(spec):
        spec = ":".join([spec.partition(":")[0], *path[-parts:]])
    return re.sub(r"[^\w.]+", "_", normalize("NFC", spec))


def _classes(config: DataConfig) -> str:
    return ",".join(map(str, config.hold_out))


def _parts(spec: str) -> tuple[str, ...]:
    """The parts of the path of a folder, or of a file without its suffix; none for other sets."""
    name, _, argument = spec.partition(":")
    if name not in PATHS:
        return ()
    return (Path(argument) if name == "folder" else Path(argument).with_suffix("")).parts


def _own(name: str, spec: str, count: int) -> str:
    data = name.encode()
    if count == 1 and len(data) <= LONGEST:
        return name
    digest = hashlib.sha256(spec.encode()).hexdigest()[:8]
    return f"{data[:LONGEST].decode(errors='ignore')}_{digest}"
