"""The page on the architecture names files that are there, and every room."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "nervecode"
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
QUESTIONS = re.findall(r"^\| (.+\?) \| `(.+)` \|$", PAGE, re.M)


def missing(page: str) -> list[str]:
    """Python files that a page names and that are in none of the places it speaks of."""
    named = re.findall(r"`((?:\w+/)*\w+\.py)`", page)
    homes = (PACKAGE, PACKAGE / "lab", PACKAGE / "layers", ROOT)
    return [name for name in named if not any((home / name).is_file() for home in homes)]


def test_every_question_has_a_file_that_answers_it() -> None:
    assert len(QUESTIONS) >= 20
    assert len({question for question, _ in QUESTIONS}) == len(QUESTIONS)
    assert [file for _, file in QUESTIONS if not (PACKAGE / file).is_file()] == []


def test_every_file_that_is_named_exists() -> None:
    assert missing(PAGE) == []


def test_a_file_that_is_gone_is_seen() -> None:
    assert missing("`lab/inputs/source.py` and `errors.py`") == ["lab/inputs/source.py"]


def test_every_room_is_on_the_page() -> None:
    rooms = {folder.parent.name for folder in PACKAGE.glob("*/__init__.py")}
    rooms |= {f"lab/{folder.parent.name}" for folder in PACKAGE.glob("lab/*/__init__.py")}
    rooms |= {f"{folder.parent.name}/" for folder in PACKAGE.glob("layers/*/__init__.py")}
    assert [room for room in sorted(rooms) if f"`{room}`" not in PAGE and room != "lab"] == []
