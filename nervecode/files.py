"""Writes that happen or do not: temporary name, flush, fsync, rename, fsync of the folder."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from nervecode.errors import NervecodeError

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of `path` when the block succeeds.

    After a crash at any moment, `path` holds the old bytes or the new ones, never some of each.

    Raises:
        NervecodeError: the folder cannot be written, or the disk is full.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        _make_folder(path.parent)
        try:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise NervecodeError(f"{path}: cannot be written ({error.strerror or error})") from error
    except SafetensorError as error:  # its own words for a full disk
        raise NervecodeError(f"{path}: cannot be written ({error})") from error


def _make_folder(folder: Path) -> None:
    """Make a folder, and let the disk know of it."""
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
