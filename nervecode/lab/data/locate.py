"""Whether a set of the catalogue is here, where, and what gets it; without torch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from nervecode.errors import InputError, MissingExtraError, NervecodeError, nearest
from nervecode.files import names_beside
from nervecode.lab.data.catalogue import CATALOGUE
from nervecode.lab.data.wheels import module_folder
from nervecode.lab.schema import PATHS
from nervecode.lab.schema.data import DataConfig

VARIABLE = "NERVECODE_DATA"
LISTS = "benchmark_imglist"  # the folder of OpenOOD's lists
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
    kind = CATALOGUE[name].kind
    assert kind is not None
    return kind.places(name, data_root())


def plain_folder(name: str) -> Path | None:
    """Where the files of a set lie as its publisher offers them; None where they are not here."""
    root, installed = data_root(), CATALOGUE[name].installed
    files = installed.plain if installed else ()
    folder = root / name if root and files else None
    return folder if folder and all((folder / file).is_file() for file in files) else None


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
    if entry and entry.installed and (lacking := entry.installed.lacking):
        get = f"pip install -e '.[{entry.installed.extra}]' in the checkout"
        return Location(name, False, f"this environment, which lacks {lacking}", get)
    if entry and entry.kind:
        for place in places(name):
            if entry.kind.is_in(place):
                return Location(name, True, str(place))
        looked = ", ".join(map(str, places(name))) or NO_ROOT
        return Location(name, False, looked, entry.kind.command(name, data_root()))
    return Location(name, True, "where you say" if name in PATHS else "comes with the package")


def locations() -> list[Location]:
    """Every set of the catalogue."""
    return [locate(name) for name in CATALOGUE]


def require_sets(configs: Iterable[DataConfig]) -> None:
    """Make sure that all sets of some configs are here, parts of the ID set by path among them.

    Raises:
        InputError, MissingExtraError: as `require`.
    """
    specs, keys = list[str](), dict[str, str]()
    for config in configs:
        kind = config.id.partition(":")[0]
        parts = {"data.test": config.test, "data.calibration": config.calibration}
        own = {f"{kind}:{path}": key for key, path in parts.items() if path}
        specs += (config.id, *own, *config.near, *config.far)
        keys |= own
    require(specs, keys)


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
    get = "; OpenOOD's download.py gets it, see docs/benchmarks.md" if LISTS in path.parts else ""
    return f"{place.name} is absent; {hint}: {allowed}{get}"
