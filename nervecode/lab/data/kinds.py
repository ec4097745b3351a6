"""Kinds of data sets: where the files of each are looked for, and what gets them.

Of archives and wheels, `archives.py` and `wheels.py` tell it in the same words. `name` is that of
the set, `root` the folder of fetched data. None imports torch or NumPy, so that sets are listed at
once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Files:
    """IDX files that somebody else publishes.

    Attributes:
        torchvision: the class of torchvision that downloads them, and the folder it makes.
        shapes: name of each file -> its shape; the images of the training part come first.
        options: further arguments of that class.
        system: folders in which a distribution installs them.
        sha256: file name -> hash of its content, unpacked, where it is known.
    """

    torchvision: str
    shapes: Mapping[str, tuple[int, ...]]
    options: Mapping[str, str] = field(default_factory=dict)
    system: tuple[str, ...] = ()
    sha256: Mapping[str, str] = field(default_factory=dict)

    def places(self, name: str, root: Path | None) -> list[Path]:
        """As fetched, as torchvision puts them there, and where they are installed."""
        fetched = [] if root is None else [root / name, self.raw_folder(root)]
        return [*fetched, *map(Path, self.system)]

    def is_in(self, folder: Path) -> bool:
        """Whether all of them are, plain or gzipped."""
        return all(find_file(folder, file) for file in self.shapes)

    def command(self, name: str, root: Path | None) -> str:
        """What gets them."""
        return f"nervecode data fetch {name}"

    def raw_folder(self, root: Path) -> Path:
        """Where torchvision puts them below a root of its own."""
        return root / self.torchvision / "raw"


def find_file(folder: Path, name: str) -> Path | None:
    """A file of a folder, plain or gzipped."""
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    return None


@dataclass(frozen=True)
class Installed:
    """Files of a package of Debian and its kin.

    Attributes:
        package: its name.
        folder: where it installs them.
        holds: one of them, by which the folder is known.
        plain: files as the publisher offers them, which serve in the place of the package.
        needs: packages of Python that read them, and the extra that brings those.
        extra: its name.
    """

    package: str
    folder: str
    holds: str
    plain: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()
    extra: str = ""

    def places(self, name: str, root: Path | None) -> list[Path]:
        """As the package was unpacked among fetched data, or as it is installed."""
        fetched = [] if root is None else [root / name, root / self.package]
        unpacked = [place / self.folder.lstrip("/") for place in fetched]
        return [*unpacked, *fetched, Path(self.folder)]

    def is_in(self, folder: Path) -> bool:
        """Whether the one is by which the folder is known."""
        return (folder / self.holds).exists()

    def command(self, name: str, root: Path | None) -> str:
        """What installs the package, or what serves in its place."""
        install = f"apt install {self.package}"
        if root is None:
            return install
        unpack = f"apt-get download {self.package} && dpkg -x *.deb {root / self.package}"
        some = " to " if len(self.plain) > 2 else " and "
        plain = some.join(dict.fromkeys([*self.plain[:1], *self.plain[-1:]]))
        files = f", or put {plain} of UCI into {root / name}" if plain else ""
        return f"{install}, or: {unpack}{files}"

    @property
    def lacking(self) -> str | None:
        """A package of Python that it needs and that is not here."""
        return next((name for name in self.needs if find_spec(name) is None), None)
