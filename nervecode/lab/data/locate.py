"""Whether a set of the catalogue is here, where, and what gets it; without torch, as the former."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from nervecode.errors import InputError, MissingExtraError, NervecodeError, nearest
from nervecode.files import names_beside
from nervecode.lab.data.catalogue import CATALOGUE, DatasetInfo, Files, Installed
from nervecode.lab.data.wheels import module_folder
from nervecode.lab.schema import PATHS

VARIABLE = "NERVECODE_DATA"
NO_ROOT = f"no home folder for data; {VARIABLE} names a folder"
EXTRA = "pip install -e '.[data]' in the checkout"


@dataclass(frozen=True)
class Location:
    """Whether a set can be used: where it is, or the command that gets it and what was tried."""

    name: str
    present: bool
    where: str
    command: str = ""


def data_root() -> Path | None:
    """The folder of fetched data: `$NERVECODE_DATA`, or `~/.cache/nervecode/data`.

    None for a user without a home, such as a container's that has neither HOME nor an entry in
    passwd. Folders that anybody may write to, as /tmp, are no place for data to be trusted.
    """
    try:
        return Path(os.environ.get(VARIABLE) or "~/.cache/nervecode/data").expanduser()
    except RuntimeError:
        return None


def require_root() -> Path:
    """The folder of fetched data.

    Raises:
        InputError: this user has none.
    """
    root = data_root()
    if root is None:
        raise InputError(f"data: this user has {NO_ROOT}")
    return root


def places(name: str) -> list[Path]:
    """Where the files of a set are looked for, the first one first."""
    entry, root = CATALOGUE[name], data_root()
    if entry.wheel:
        return entry.wheel.places(root)
    fetched = [] if root is None else [root / name]
    if entry.archives:
        return fetched if root is None else [*fetched, root]
    if entry.installed:  # as the package was unpacked there, or as it is installed
        folder = entry.installed.folder
        fetched += [] if root is None else [root / entry.installed.package]
        return [*(place / folder.lstrip("/") for place in fetched), *fetched, Path(folder)]
    assert entry.files is not None
    if root is not None:
        fetched.append(raw_folder(root, entry.files))
    return [*fetched, *map(Path, entry.files.system)]


def plain_folder(name: str) -> Path | None:
    """Where the files of a set lie as its publisher offers them; None where they are not here."""
    root, files = data_root(), CATALOGUE[name].plain
    folder = root / name if root and files else None
    return folder if folder and all((folder / file).is_file() for file in files) else None


def raw_folder(root: Path, files: Files) -> Path:
    """Where torchvision puts the files of a set below a root of its own."""
    return root / files.torchvision / "raw"


def find_file(folder: Path, name: str) -> Path | None:
    """A file of a folder, plain or gzipped."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


def pictures_folder() -> Path | None:
    """Where the wheel of scikit-image carries its pictures; it is not imported."""
    return module_folder("skimage", "data")


def locate(spec: str) -> Location:
    """Whether a set can be used here; a name beyond the catalogue is taken as present."""
    name, _, argument = spec.partition(":")
    entry = CATALOGUE.get(name)
    if name in PATHS and argument:
        path = Path(argument)
        return Location(spec, path.is_dir() if name == "folder" else path.is_file(), argument)
    if entry and entry.pictures:
        folder = pictures_folder()
        if folder and all((folder / file).is_file() for file in entry.pictures):
            return Location(name, True, "comes with scikit-image")
        return Location(name, False, str(folder or "scikit-image, which is not installed"), EXTRA)
    if entry and (plain := plain_folder(name)):
        return Location(name, True, str(plain))
    if entry and entry.installed and (lacking := _lacking(entry.installed)):
        get = f"pip install -e '.[{entry.installed.extra}]' in the checkout"
        return Location(name, False, f"this environment, which lacks {lacking}", get)
    if entry and (entry.files or entry.archives or entry.installed or entry.wheel):
        for place in places(name):
            if holds(place, entry):
                return Location(name, True, str(place))
        looked = ", ".join(map(str, places(name))) or NO_ROOT
        return Location(name, False, looked, _command(name, entry))
    return Location(name, True, "where you say" if name in PATHS else "comes with the package")


def _lacking(installed: Installed) -> str | None:
    """A package of Python that a set needs and that is not here."""
    return next((name for name in installed.needs if find_spec(name) is None), None)


def _command(name: str, entry: DatasetInfo) -> str:
    if entry.wheel:
        return entry.wheel.command
    if entry.installed is None:
        return f"nervecode data fetch {name}"
    package, root = entry.installed.package, data_root()
    if root is None:
        return f"apt install {package}"
    unpacked = f"apt-get download {package} && dpkg -x *.deb {root / package}"
    files = f", or put {_listed(entry.plain)} of UCI into {root / name}" if entry.plain else ""
    return f"apt install {package}, or: {unpacked}{files}"


def _listed(names: tuple[str, ...]) -> str:
    return f"{names[0]} to {names[-1]}" if len(names) > 2 else " and ".join(names)


def holds(folder: Path, entry: DatasetInfo) -> bool:
    """Whether all the files of a set are in a folder; none of them is read."""
    if entry.archives:
        return all((folder / file).exists() for file in entry.archives.holds)
    if entry.installed:
        return (folder / entry.installed.holds).exists()
    if entry.wheel:
        return all((folder / file).is_file() for file in entry.wheel.files)
    return entry.files is not None and all(find_file(folder, file) for file in entry.files.shapes)


def locations() -> list[Location]:
    """Every set of the catalogue."""
    return [locate(name) for name in CATALOGUE]


def require(specs: Iterable[str], keys: Mapping[str, str] | None = None) -> None:
    """Make sure that sets are here; `NAME:ARGUMENT` asks for `NAME`.

    Args:
        specs: of the sets.
        keys: spec -> the key of a config that has it, where that is told.

    Raises:
        InputError: every set that is absent, where it was looked for, and what gets it.
        MissingExtraError: the same, where all that is missing is scikit-image.
    """
    absent = [place for place in dict.fromkeys(map(locate, specs)) if not place.present]
    if not absent:
        return
    lines = [f"{(keys or {}).get(place.name, 'data')}: {_absence(place)}" for place in absent]
    extra = all(place.command == EXTRA for place in absent)
    error: type[NervecodeError] = MissingExtraError if extra else InputError
    raise error("\n".join(lines))


def _absence(place: Location) -> str:
    """What is wrong with a set that cannot be used, and what to do."""
    if place.command:
        return f"{place.name} is absent from {place.where}; get it: {place.command}"
    path, of_folder = Path(place.where), place.name.startswith("folder:")
    allowed = "the path of a folder of images" if of_folder else "the path of a file"
    if path.exists():
        found = "a folder" if path.is_dir() else "a file" if path.is_file() else "no file"
        return f"{place.name}: {path} is {found}, allowed: {allowed}"
    near = nearest(path.name, names_beside(path, Path.is_dir if of_folder else Path.is_file))
    hint = f"did you mean {near!r}? Allowed" if near else "allowed"
    return f"{place.name} is absent from {path}; {hint}: {allowed}"
