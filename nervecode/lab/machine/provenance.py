"""Provenance: versions, source revision and hardware, without loading any of them."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from nervecode import __version__

PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "pytorch-ood")


@functools.cache  # of this process, whose source may change under it
def provenance() -> dict[str, Any]:
    """What a reader needs to know about where a run was made."""
    return {
        "versions": {"python": platform.python_version(), **_versions()},
        "git_commit": _git_commit(),
        "hardware": {
            "system": platform.platform(),
            "processor": platform.processor() or platform.machine(),
            "cores": os.cpu_count(),
        },
    }


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _versions() -> dict[str, str]:
    versions = {"nervecode": __version__}  # an editable install may tell of an older one
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """The commit of a source checkout, `-dirty` where the package differs from it; None if none.

    What lies beside the package does not count: a study writes its own rows there as it goes.
    """
    package = Path(__file__).parents[2]
    if not (package.parent / ".git").exists():
        return None
    try:
        commit, changes = (
            _git(package, *words) for words in (("rev-parse", "HEAD"), ("status", "--short", "."))
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return commit + "-dirty" * bool(changes)


def _git(folder: Path, *words: str) -> str:
    command = ["git", "--no-optional-locks", "-C", str(folder), *words]
    result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return result.stdout.strip()
