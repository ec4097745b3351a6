"""Lists of pictures: text files that name a picture and its class a line, as OpenOOD's splits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from nervecode.errors import InputError
from nervecode.files import absent
from nervecode.lab.data.image_files import ImageFiles

ABOVE = 3  # folders over a list in which its pictures are looked for


def read_labelled(path: Path) -> ImageFiles:
    """The pictures of a list in which each has a class.

    Raises:
        InputError: as `read_list`, or a picture without a class.
    """
    files = read_list(path)
    if -1 in files.labels:
        name = files.paths[files.labels.index(-1)].name
        raise InputError(f"{path}: {name!r} has no class, allowed as ID data: classes from 0 on")
    return files


def read_list(path: Path) -> ImageFiles:
    """The pictures of a list, in its order: `PATH LABEL` a line, -1 for a picture without a class.

    Paths are relative to the folder of the list or one of the three above it, or to a folder in one
    of these: the first in which the first picture lies. So the lists of OpenOOD in
    `data/benchmark_imglist/cifar10` find their pictures in `data/images_classic`.

    Raises:
        InputError: a file that cannot be read or names no picture, a line of another form, or a
            first picture that lies in none of the folders.
    """
    pairs = [_entry(line, number, path) for number, line in _lines(path)]
    if not pairs:
        raise InputError(f"{path}: names no picture; allowed: lines of a path and a class")
    root = _root(path, pairs[0][0])
    return ImageFiles.listed((root / name, label) for name, label in pairs)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that are not empty, with their numbers from 1."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(absent(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, line.strip()


def _entry(line: str, number: int, path: Path) -> tuple[str, int]:
    name, _, label = line.rpartition(" ")
    try:
        value = int(label)
    except ValueError:
        value = -2
    if not name or value < -1:
        raise InputError(
            f"{path}: line {number}: found {line!r}, allowed: a path, a space and a class from 0 "
            "on, or -1"
        )
    if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
        raise InputError(f"{path}: line {number}: found {name!r}, allowed: a path below a folder")
    return name, value


def _root(path: Path, first: str) -> Path:
    """The folder that the paths of a list are relative to."""
    above = [path.parent, *path.parent.parents][: ABOVE + 1]
    for folder in above:
        inside = sorted(entry for entry in folder.iterdir() if entry.is_dir())
        for root in (folder, *inside):
            if (root / first).is_file():
                return root
    raise InputError(
        f"{path}: its first picture {first!r} lies in none of {', '.join(map(str, above))} nor in "
        "a folder in one of them"
    )
