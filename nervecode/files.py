"""Files written whole or not at all, and read with suspicion.

A write takes a temporary name, flush, fsync, rename, and fsync of the folder.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from nervecode.errors import ArtifactError, InputError, NervecodeError, did_you_mean, nearest

if TYPE_CHECKING:
    import numpy as np

TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")

# A small file may unpack to MAX_PLAIN bytes. A larger one holds figures, which hardly shrink: one
# that promises more than MAX_RATIO times its size is made to fill the memory.
MAX_PLAIN = 64 << 20
MAX_RATIO = 100
BUFFER = 1 << 20


def names_beside(path: Path, kind: Callable[[Path], bool] = Path.is_file) -> list[str]:
    """The names of the files, or of another kind, in the folder where a path should be."""
    try:
        return [other.name for other in path.parent.iterdir() if kind(other)]
    except OSError:  # that folder is absent too
        return []


def suffix_of(path: Path) -> str:
    """The suffix of a file that is read, capitals aside."""
    return path.suffix.lower()


def absent(path: Path) -> str:
    """The start of an error about a file that is not there."""
    near = nearest(path.name, names_beside(path))
    return f"{path}: no such file" + (f"; did you mean {near!r}?" if near else "")


def check_apart(path: Path, source: Path, *, what: str) -> None:
    """Refuse to replace what is being read.

    Raises:
        InputError: an output that is the same file as a source.
    """
    if path.exists() and source.exists() and path.samefile(source):
        raise InputError(f"{what} {path}: is what is read, which it would replace")


def check_new(
    path: Path, suffixes: Sequence[str] = (), *, what: str = "output", force: bool = False
) -> None:
    """Refuse an output that cannot or must not be written, before any work is done.

    Args:
        path: of the output.
        suffixes: that it may have; none are all.
        what: the option or argument that named it.
        force: it may exist.

    Raises:
        InputError: another suffix, no such folder, a folder, a device, or a file that exists.
    """
    if suffixes and not path.name.endswith(tuple(suffixes)):
        hint = did_you_mean(path.suffix, suffixes)
        raise InputError(f"{what} {path}: unknown suffix {path.suffix!r}; {hint}")
    if not path.parent.is_dir():
        raise InputError(f"{what} {path}: no such folder {path.parent}")
    if path.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"{what} {path}: cannot be written")
    if is_special(path):
        raise InputError(f"{what} {path}: is no regular file, which it would replace")
    if path.exists() and not force:
        raise InputError(f"{what} {path}: exists; --force replaces it")


def is_special(path: Path) -> bool:
    """Whether a device, a pipe or the like is there, in whose place no file may be put."""
    return path.exists() and not path.is_file() and not path.is_dir()


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; it takes the place of `path` when the block succeeds.

    After a crash at any moment, `path` holds the old bytes or the new ones, never some of each.

    Raises:
        NervecodeError: the folder cannot be written, the disk is full, or a device or a pipe is
            in its place.
    """
    if is_special(path):
        raise NervecodeError(f"{path}: is no regular file, which it would replace")
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


def write_text(path: Path, text: str) -> None:
    """Write a text file."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_line(path: Path, line: str) -> None:
    """Append a line to a log, which grows and is not replaced.

    Raises:
        NervecodeError: the file cannot be written.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
    except OSError as error:
        raise NervecodeError(f"{path}: cannot be written ({error.strerror})") from error


def write_json(path: Path, value: Any) -> None:
    """Write one JSON document."""
    write_text(path, json_text(value))


def json_text(value: Any) -> str:
    """One JSON document, as `write_json` writes it."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def csv_text(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> str:
    """Rows as comma-separated text below a header; the columns are those of the first row."""
    if not rows:
        return ""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns or list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def read_json(path: Path) -> Any:
    """Read one JSON document.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(f"{path}: is missing") from None
    except (OSError, ValueError, RecursionError) as error:
        raise ArtifactError(f"{path}: is damaged ({error})") from None


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write arrays, compressed; the same arrays give the same bytes."""
    import numpy as np  # which takes longer to load than most commands that read no array

    assert not any(array.dtype.hasobject for array in arrays.values())
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Read arrays, never pickled objects.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    import numpy as np

    try:
        check_archive(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if not all(isinstance(array, np.ndarray) for array in arrays.values()):
            raise ValueError("a member is no array")
        return arrays
    except FileNotFoundError:
        raise ArtifactError(f"{path}: is missing") from None
    except Exception as error:  # zipfile, zlib and numpy each raise errors of their own
        raise ArtifactError(f"{path}: is damaged ({error})") from None


def check_archive(path: Path) -> None:
    """Refuse a zip file that promises more than a file of its size can hold.

    Python unpacks no more of a member than its header promises, so promises are enough to look at.

    Raises:
        ValueError: it promises too much, or is packed in another way than NumPy packs.
        BadZipFile: it is no zip file.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(m.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for m in members):
        raise ValueError("packed in a way that NumPy does not pack")
    promised, size = sum(m.file_size for m in members), path.stat().st_size
    if promised > max(MAX_PLAIN, MAX_RATIO * size):
        raise ValueError(
            f"promises {promised:,} bytes in a file of {size:,}, allowed: {MAX_RATIO} times that"
        )


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, hexadecimal."""
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()
