"""Fetching: sets into the data folder, from a folder or by torchvision's download."""

from __future__ import annotations

import io
import shutil
from contextlib import redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory

from nervecode.errors import InputError, NervecodeError, did_you_mean, one_line
from nervecode.files import replacing
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.idx_sets import Checked, check_folder
from nervecode.lab.data.kinds import Files
from nervecode.lab.data.locate import locate, require, require_root
from nervecode.lab.data.unpack import install, intact


def fetch(name: str, *, source: Path | None = None) -> str:
    """Bring a set into the data folder, or say where it is already.

    Args:
        name: a set of the catalogue.
        source: a folder with its files (IDX files plain or gzipped, archives as published or
            unpacked); None downloads what is absent.

    Returns:
        Where the set is.

    Raises:
        InputError: an unknown name, or files that are not those of the set.
        MissingExtraError: the set comes with scikit-image, which is not installed.
        NervecodeError: the download failed, or the data folder cannot be written.
    """
    check_names([name])
    files, archives = CATALOGUE[name].files, CATALOGUE[name].archives
    if archives is not None:
        if source is None and intact(name):
            return locate(name).where
        return str(install(name, archives, source))
    if files is None:
        require([name])
        return locate(name).where
    if source is not None:
        return str(_install(name, files, source))
    if _whole(name, files):
        return locate(name).where
    return str(_download(name, files))


def check_names(names: list[str]) -> None:
    """Raise InputError for a name that the catalogue does not have."""
    for name in names:
        if name not in CATALOGUE:
            raise InputError(f"data: unknown set {name!r}; {did_you_mean(name, CATALOGUE)}")


def _whole(name: str, files: Files) -> bool:
    """Whether a set is here and undamaged."""
    place = locate(name)
    if not place.present:
        return False
    try:
        _checked(name, files, Path(place.where))
    except InputError:
        return False
    return True


def _checked(name: str, files: Files, folder: Path) -> dict[str, Checked]:
    """The files of a folder, whole, and not those of another set: all have the same names."""
    checked = check_folder(folder, files.shapes)
    owners = {
        digest: other
        for other, entry in CATALOGUE.items()
        if entry.files
        for digest in entry.files.sha256.values()
    }
    for file, idx_file in checked.items():
        owner = owners.get(idx_file.sha256, name)
        if owner != name:
            raise InputError(f"{idx_file.path}: found a file of {owner}, allowed: that of {name}")
        if idx_file.sha256 != files.sha256.get(file, idx_file.sha256):
            raise InputError(
                f"{idx_file.path}: found other content than published (SHA-256 "
                f"{idx_file.sha256[:12]}…, allowed: {files.sha256[file][:12]}…)"
            )
    return checked


def _install(name: str, files: Files, source: Path) -> Path:
    """Copy the files of a folder, after all of them have been checked."""
    if not source.is_dir():
        raise InputError(f"--from {source}: no such folder")
    checked = _checked(name, files, source)
    folder = require_root() / name
    if source.resolve() == folder.resolve():
        return folder
    for file, idx_file in checked.items():
        with replacing(folder / idx_file.path.name) as temporary:
            shutil.copyfile(idx_file.path, temporary)
        # A copy of the other kind, from an earlier fetch, would hide this one.
        other = folder / (file if idx_file.path.suffix == ".gz" else f"{file}.gz")
        other.unlink(missing_ok=True)
    return folder


def _download(name: str, files: Files) -> Path:
    """Let torchvision download into a folder that goes away, and install what it got."""
    from torchvision import datasets

    root = require_root()
    try:
        root.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{name}.", dir=root) as folder:
            # torchvision prints which mirror failed; standard output is for results.
            with redirect_stdout(io.StringIO()):
                getattr(datasets, files.torchvision)(folder, download=True, **files.options)
            return _install(name, files, files.raw_folder(Path(folder)))
    except (OSError, RuntimeError) as error:
        if isinstance(error, NervecodeError):
            raise
        reason = one_line(error)
        raise NervecodeError(
            f"data: {name} could not be downloaded ({reason}); with its files in a folder: "
            f"nervecode data fetch {name} --from DIR"
        ) from None
