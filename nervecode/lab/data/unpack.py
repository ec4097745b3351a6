"""Unpacking: archives into the data folder, downloaded or from a folder; whole or not at all."""

from __future__ import annotations

import os
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from gzip import BadGzipFile
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import BadZipFile, ZipFile

from nervecode.errors import InputError, NervecodeError, one_line
from nervecode.lab.data.archives import Archives, Download
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.locate import locate, require_root


def install(name: str, archives: Archives, source: Path | None) -> Path:
    """Make the folder of a set, from a folder or by download; returns it.

    Everything happens in a temporary folder beside it, which takes its place when all of it has
    been checked.

    Args:
        name: the set.
        archives: what it is made of.
        source: a folder with the archives, or with what is in them; None downloads.

    Raises:
        InputError: files that are not those of the set.
        NervecodeError: the download failed, or there is no room for it.
    """
    target, given = require_root() / name, None
    if source is not None:
        if not source.is_dir():
            raise InputError(f"--from {source}: no such folder")
        packed = all((source / download.name).is_file() for download in archives.downloads)
        if archives.is_in(source) and not packed:
            check(name, source)
        else:
            given = _given(name, archives, source)
        if source.resolve() == target.resolve():
            return target
    with _workplace(name, archives) as folder:
        made = folder / "made"
        made.mkdir()
        if source is not None and given is None:
            _copy(source, archives, made)
        for path, download in given or () if source else _downloads(name, archives, folder):
            _place(path, download, made)
        check(name, made)
        _take_place(made, target)
    return target


def check(name: str, folder: Path) -> None:
    """Make sure that a set in a folder is whole.

    Raises:
        InputError: something of it is missing or damaged.
    """
    from nervecode.lab.data.array_sets import load_arrays
    from nervecode.lab.data.registry import DATASETS

    archives = CATALOGUE[name].archives
    assert archives is not None
    absent = [path for path in archives.holds if not (folder / path).exists()]
    if absent:
        raise InputError(f"{folder}: holds no {', '.join(absent)}")
    if name in DATASETS:
        load_arrays(name, folder)


def intact(name: str) -> bool:
    """Whether a set is here and undamaged."""
    place = locate(name)
    if not place.present:
        return False
    try:
        check(name, Path(place.where))
    except InputError:
        return False
    return True


@contextmanager
def _workplace(name: str, archives: Archives) -> Iterator[Path]:
    """A temporary folder in the data folder, gone afterwards; every failure is told."""
    root = require_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(root).free // 10**6
        if free < archives.megabytes:
            raise NervecodeError(
                f"data: no space for {name} in {root}: {free} MB free, "
                f"{archives.megabytes} MB needed; NERVECODE_DATA names another folder"
            )
        with TemporaryDirectory(prefix=f".{name}.", dir=root) as folder:
            yield Path(folder)
    except OSError as error:
        raise NervecodeError(f"data: {name} cannot be written to {root} ({error})") from None


def _downloads(name: str, archives: Archives, folder: Path) -> Iterator[tuple[Path, Download]]:
    """Each file, downloaded with progress on standard error, its MD5 checked."""
    from torchvision.datasets.utils import download_url

    for download in archives.downloads:
        try:
            # torchvision may print; standard output is for results.
            with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                download_url(download.url, folder, download.name, download.md5)
        except Exception as error:  # urllib, http.client and torchvision each raise their own
            reason = one_line(error)
            raise NervecodeError(
                f"data: {name} could not be downloaded from {download.url} ({reason}); with that "
                f"file in a folder: nervecode data fetch {name} --from DIR"
            ) from None
        yield folder / download.name, download


def _given(name: str, archives: Archives, source: Path) -> list[tuple[Path, Download]]:
    """The archives of a folder, each with the published sum; nothing is unpacked before."""
    from torchvision.datasets.utils import calculate_md5

    absent = [d.name for d in archives.downloads if not (source / d.name).is_file()]
    if absent:
        raise InputError(
            f"{source}: holds no {', '.join(absent)}, nor what is in it "
            f"({', '.join(archives.holds)})"
        )
    for download in archives.downloads:
        md5 = calculate_md5(source / download.name)
        if md5 != download.md5:
            raise InputError(
                f"{source / download.name}: is cut short or not the published file of {name} "
                f"(found MD5 {md5}, allowed: {download.md5})"
            )
    return [(source / download.name, download) for download in archives.downloads]


def _place(path: Path, download: Download, made: Path) -> None:
    folder = made / download.into
    folder.mkdir(parents=True, exist_ok=True)
    if download.packed:
        _unpack(path, folder)
    else:
        shutil.copyfile(path, folder / download.name)


def _unpack(path: Path, folder: Path) -> None:
    """Unpack an archive; nothing of it comes to lie outside of the folder.

    Raises:
        InputError: a member that is neither a file nor a folder in it, or an archive that is cut.
    """
    try:
        if path.suffix == ".zip":
            with ZipFile(path) as archive:
                for member in archive.infolist():
                    _check_member(path, member.filename, plain=True)
                archive.extractall(folder)
            return
        # Python 3.10.12 and 3.11.4 brought the filter, which later ones ask for.
        filtered: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        with tarfile.open(path) as tar:
            tar.extractall(folder, members=_checked_members(path, tar), **filtered)
    except (tarfile.TarError, BadGzipFile, BadZipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be unpacked ({error})") from None


def _checked_members(path: Path, tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for member in tar:
        _check_member(path, member.name, plain=member.isreg() or member.isdir())
        yield member


def _check_member(path: Path, name: str, *, plain: bool) -> None:
    inside = PurePosixPath(name)
    if not plain or inside.is_absolute() or ".." in inside.parts or "\\" in name:
        raise InputError(f"{path}: found the member {name!r}, allowed: files inside its folder")


def _copy(source: Path, archives: Archives, made: Path) -> None:
    """What is already unpacked: each file or folder at the top of what the set holds."""
    for top in dict.fromkeys(path.partition("/")[0] for path in archives.holds):
        if (source / top).is_dir():
            shutil.copytree(source / top, made / top)
        else:
            shutil.copyfile(source / top, made / top)


def _take_place(made: Path, target: Path) -> None:
    """Rename a folder; what was in its place goes away with the temporary folder."""
    if target.exists():
        target.rename(made.parent / "before")
    made.rename(target)
