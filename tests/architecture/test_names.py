"""The name of a class says which class is meant."""

from __future__ import annotations

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "nervecode"


def homonyms(package: Path) -> dict[str, list[str]]:
    """Class name -> the files that define it, where there are several."""
    homes = defaultdict(list)
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                homes[node.name].append(file.relative_to(package).as_posix())
    return {name: files for name, files in homes.items() if len(files) > 1}


def test_class_names_are_unique_in_the_package() -> None:
    assert homonyms(PACKAGE) == {}


def test_a_name_that_two_files_define_is_seen(tmp_path: Path) -> None:
    for file in ("one.py", "two.py"):
        (tmp_path / file).write_text("def f():\n    class Cell: ...\n")
    assert homonyms(tmp_path) == {"Cell": ["one.py", "two.py"]}
