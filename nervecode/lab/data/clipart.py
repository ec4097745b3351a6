"""Clip art by kind, as Debian's package openclipart-png installs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from nervecode.errors import InputError
from nervecode.files import sha256
from nervecode.lab.data.dataset import ImageDataset
from nervecode.lab.data.image_files import ImageFiles, images_below
from nervecode.lab.data.locate import locate, require

MOST = 150  # of one kind; there are five hundred flags
MAX_PIXELS = 2_500_000  # a few have a hundred times as many, for posters

KINDS: Mapping[str, str] = {
    "aiga_symbols": "transportation/aiga-symbols",
    "arrows": "shapes/arrows",
    "beverages": "food/beverages",
    "birds": "animals/birds",
    "boats": "transportation/boating",
    "bugs": "animals/bugs",
    "buildings": "buildings",
    "clothing": "people/clothing",
    "desserts": "food/desserts",
    "flags": "signs_and_symbols/flags",
    "fruit": "food/fruit",
    "games": "recreation/games",
    "jigsaw": "shapes/jigsaw",
    "leds": "signs_and_symbols/led",
    "mammals": "animals/mammals",
    "music": "recreation/music",
    "office": "office",
    "plants": "plants",
    "road_signs": "transportation/roadsigns",
    "smilies": "people/smilies",
    "sports": "recreation/sports",
    "stickmen": "people/stickmen",
    "tools": "tools",
}
"""Kind -> its folder in the package; other folders hold icons, patterns and odds and ends."""


def openclipart(argument: str = "") -> ImageDataset:
    """1,850 drawings of 23 kinds, of many sizes, on white; each file once.

    Of a kind with more than `MOST`, every so-manieth in the order of their names.

    Raises:
        InputError: the package is not there, or a kind of it.
    """
    require(["openclipart"])
    root, met = Path(locate("openclipart").where), set[str]()
    pairs = [
        (path, number)
        for number, folder in enumerate(KINDS.values())
        for path in _thinned(list(_distinct(root / folder, met)))
    ]
    files = replace(ImageFiles.listed(pairs), keep="openclipart")  # larger than what is decoded
    return ImageDataset(files, classes=tuple(KINDS))


def _distinct(folder: Path, met: set[str]) -> Iterator[Path]:
    """The pictures of a folder that are not too large, and whose bytes none before them had."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is absent; get the package openclipart-png again")
    for path in (p for p in images_below(folder) if p.suffix == ".png"):
        digest = sha256(path)
        if digest not in met and _pixels(path) <= MAX_PIXELS:
            met.add(digest)
            yield path


def _pixels(path: Path) -> int:
    """Of a PNG file: width times height, which stand at a fixed place in it."""
    with path.open("rb") as file:
        header = file.read(24)
    return int.from_bytes(header[16:20], "big") * int.from_bytes(header[20:24], "big")


def _thinned(paths: list[Path]) -> list[Path]:
    """At most `MOST` of them, evenly spread."""
    count = min(len(paths), MOST)
    return [paths[index * len(paths) // count] for index in range(count)]
