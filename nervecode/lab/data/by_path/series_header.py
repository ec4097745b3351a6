"""The header of a `.ts` file: what it says of its series.

Keys and the words true and false are read in any case, as aeon and sktime read them
(https://www.aeon-toolkit.org/en/stable/api_reference/data_format.html).
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from nervecode.errors import InputError, did_you_mean

Lines = Generator[tuple[str, str], None, None]  # (file and line number, text)
Values = dict[str, tuple[str, list[str]]]  # key -> (file and line number, words)

NAMES = (
    "problemName", "timeStamps", "missing", "univariate", "dimension", "dimensions", "equalLength",
    "seriesLength", "classLabel", "targetLabel", "data",
)  # fmt: skip
KEYS = {name.lower(): name for name in NAMES}


@dataclass(frozen=True)
class SeriesHeader:
    """What holds of all series of a file.

    Attributes:
        labelled: a class stands behind each.
        classes: those that may stand there; empty where they are not listed.
        channels: of each; 0 where the header does not say.
        steps: of each; 0 where the header does not say.
    """

    labelled: bool
    classes: frozenset[str]
    channels: int
    steps: int


def read_header(lines: Lines, path: Path) -> SeriesHeader:
    """Take the lines up to `@data`.

    Raises:
        InputError: a line that is none of a header, an unknown key or one that comes twice, a
            value that a key does not have; time stamps; targets of a regression; or nothing that
            says whether there are classes.
    """
    values: Values = {}
    for source, line in lines:
        if not line.startswith("@"):
            raise InputError(
                f"{source}: found {line[:40]!r} above a line @data, allowed there: lines that "
                "begin with @ or #"
            )
        name, *words = line[1:].split() or [""]
        key = name.lower()
        if key not in KEYS:
            raise InputError(f"{source}: unknown key @{name}; {did_you_mean(name, NAMES)}")
        if key == "data":
            if words:
                raise InputError(
                    f"{source}: found {words[0][:40]!r} behind @data, allowed: nothing"
                )
            return _header(values, path)
        key = "dimension" if key == "dimensions" else key
        if key in values and key != "problemname":
            raise InputError(f"{source}: found @{name} a second time, allowed: once")
        values[key] = source, words
    raise InputError(f"{path}: has no line @data, allowed: a .ts file")


def _header(values: Values, path: Path) -> SeriesHeader:
    if _flag(values, "timestamps"):
        source, _ = values["timestamps"]
        raise InputError(f"{source}: has time stamps, allowed: values at equal steps alone")
    if _flag(values, "targetlabel"):
        source, _ = values["targetlabel"]
        raise InputError(
            f"{source}: has targets of a regression (@targetLabel true), allowed: classes "
            "(@classLabel true), or neither"
        )
    if "classlabel" not in values and "targetlabel" not in values:
        raise InputError(
            f"{path}: has no line @classLabel, allowed: @classLabel true and the classes, or "
            "@classLabel false"
        )
    _flag(values, "missing")  # what is missing is found among the values
    labelled = _flag(values, "classlabel")
    return SeriesHeader(
        labelled,
        frozenset(map(as_listed, values["classlabel"][1][1:])) if labelled else frozenset(),
        1 if _flag(values, "univariate") else _count(values, "dimension"),
        _count(values, "serieslength") if _flag(values, "equallength", default=True) else 0,
    )


def as_listed(word: str) -> str:
    """A class as it is compared with those of the header: 1.0 is 1."""
    return word.removesuffix(".0")


def _flag(values: Values, key: str, *, default: bool = False) -> bool:
    if key not in values:
        return default
    source, words = values[key]
    word = words[0] if words else "nothing"
    if word.lower() not in ("true", "false"):
        raise InputError(f"{source}: @{KEYS[key]}: found {word}, allowed: true or false")
    return word.lower() == "true"


def _count(values: Values, key: str) -> int:
    if key not in values:
        return 0
    source, words = values[key]
    text = " ".join(words) or "nothing"
    if not (text.isdecimal() and int(text)):
        raise InputError(f"{source}: @{KEYS[key]}: found {text}, allowed: a whole number above 0")
    return int(text)
