"""Survey: what a table holds, by one pass over it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nervecode.errors import InputError
from nervecode.lab.data.by_path.cells import as_numbers
from nervecode.lab.data.by_path.table_files import blocks

# Numbers with a decimal comma, or with separators of thousands.
OTHER_NUMBERS = r"[-+]?(\d+,\d+|\d{1,3}([,.'’]\d{3})+([.,]\d+)?)"


@dataclass
class ColumnKind:
    """What the cells of a column are.

    Attributes:
        numbers: how many of them are numbers.
        texts: how many are something else.
        commas: how many of these are numbers with other separators than a decimal point.
        text: the first that is no number, as (row, text).
    """

    numbers: int = 0
    texts: int = 0
    commas: int = 0
    text: tuple[int, str] | None = None


@dataclass
class Contents:
    """How many rows a table has, and the kind of each column."""

    rows: int = 0
    kinds: dict[str, ColumnKind] = field(default_factory=dict)


def survey(path: Path, names: Sequence[str]) -> Contents:
    """Count rows, and see of some columns whether they hold numbers or texts.

    Raises:
        InputError: a file that cannot be read as a table.
    """
    contents = Contents()
    for block in blocks(path, names):
        for name in names:
            kind = contents.kinds.setdefault(name, ColumnKind())
            values = as_numbers(block[name])
            kind.numbers += int(values.notna().sum())
            wrong = (values.isna() & block[name].notna()).to_numpy()
            if wrong.any():
                texts = block[name][wrong].astype(str)
                kind.texts += len(texts)
                kind.commas += int(texts.str.fullmatch(OTHER_NUMBERS).sum())
                kind.text = kind.text or (contents.rows + int(wrong.argmax()), texts.iloc[0])
        contents.rows += len(block)
    if not contents.rows:
        raise InputError(f"{path}: holds no row below the names of its columns")
    return contents
