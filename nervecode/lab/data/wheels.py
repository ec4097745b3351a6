"""Wheels: sets in files that other packages of Python carry, of which none is imported."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """The files of a set.

    Attributes:
        package: that carries them.
        folder: in which they lie, within the package.
        files: their names.
    """

    package: str
    folder: str
    files: tuple[str, ...]

    def places(self, name: str, root: Path | None) -> list[Path]:
        """As the package was unpacked among fetched data, or as it is installed."""
        fetched = [] if root is None else [root / self.package / self.folder]
        own = module_folder(self.package, self.folder)
        return [*fetched, *([own] if own else [])]

    def is_in(self, folder: Path) -> bool:
        """Whether all the files are."""
        return all((folder / file).is_file() for file in self.files)

    def command(self, name: str, root: Path | None) -> str:
        """What installs the package, without its dependencies, since its files are read alone."""
        return f"pip install --no-deps {self.package}"


def module_folder(package: str, folder: str) -> Path | None:
    """A folder within an installed package; None where that is not installed."""
    spec = find_spec(package)
    return Path(spec.origin).parent / folder if spec and spec.origin else None


def _aeon(name: str, file: str = "") -> Wheel:
    files = tuple(f"{file or name}_{part}.ts" for part in ("TRAIN", "TEST"))
    return Wheel("aeon", f"datasets/data/{name}", files)


WHEELS: dict[str, Wheel] = {
    "japanese_vowels": _aeon("JapaneseVowels", "JapaneseVowels_eq"),
    "basic_motions": _aeon("BasicMotions"),
    "osu_leaf": _aeon("OSULeaf"),
    "acsf1": _aeon("ACSF1"),
    "arrow_head": _aeon("ArrowHead"),
    "pickup_gesture": _aeon("PickupGestureWiimoteZ", "PickupGestureWiimoteZ_eq"),
}
