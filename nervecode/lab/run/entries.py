"""Entries: what lies below a folder, without the links that lead out of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from nervecode.errors import ArtifactError
from nervecode.files import TEMPORARY


def refuse_links(path: Path, root: Path) -> None:
    """Refuse a path that is, or leads through, a link below a folder.

    Raises:
        ArtifactError: it does.
    """
    for part in [path, *path.parents][: len(path.relative_to(root).parts)]:
        if part.is_symlink():
            raise ArtifactError(f"{part}: is a link; a run is made of files of its own")


def entries(root: Path) -> Iterator[Path]:
    """Everything below a folder but its folders; a link is one entry, wherever it leads."""
    for folder, folders, files in os.walk(root):
        paths = [Path(folder) / name for name in folders + files]
        yield from (path for path in paths if path.is_symlink() or not path.is_dir())


def tidy(root: Path) -> None:
    """Remove what a writer did not finish."""
    for path in entries(root):
        refuse_links(path, root)
        if TEMPORARY.fullmatch(path.name):
            path.unlink(missing_ok=True)
