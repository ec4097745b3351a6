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

    @property
    def command(self) -> str:
        """What installs the package, without its dependencies, since its files are read alone."""
        return f"pip install --no-deps {self.package}"

    def places(self, root: Path | None) -> list[Path]:
        """Where the files are looked for, the first one first; root is that of fetched data."""
        fetched = [] if root is None else [root / self.package / self.folder]
        own = module_folder(self.package, self.folder)
        return [*fetched, *([own] if own else [])]


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
