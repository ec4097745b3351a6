#!/usr/bin/env python
"""Which changes of a file no test sees: numbers and signs are changed one by one, and tests run.

    python scripts/mutate.py nervecode/core/label.py tests/mathematics tests/core/test_label.py

In a copy of the checkout each number becomes another, each + a -, each * a / and each < a <=.
Texts, annotations and what is raised stay. A change after which all tests pass is printed. Some may
be: a guard against rounding, or a limit that is never met exactly. The status is 1 where any is
left.
"""

from __future__ import annotations

import argparse
import ast
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LEFT_OUT = shutil.ignore_patterns(".git", ".venv", ".*_cache", "__pycache__", "runs", "build")
SLOWEST = 600  # seconds that tests may take; a change that keeps them longer is seen
OTHERS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.USub: ast.UAdd, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip


class Change(NamedTuple):
    """One change: where it is, what it does, and the whole file with it."""

    line: int
    what: str
    source: str


def changes(source: str) -> Iterator[Change]:
    """Every change of a file, one at a time."""
    tree = ast.parse(source)
    for node in list(_places(tree)):
        if isinstance(node, ast.Constant):
            old = node.value
            node.value = old + 1 if isinstance(old, int) else 1.5 * old or 0.5
            yield Change(node.lineno, f"{old} -> {node.value}", ast.unparse(tree))
            node.value = old
            continue
        holder, key = (node.ops, 0) if isinstance(node, ast.Compare) else (vars(node), "op")
        before = holder[key]
        holder[key] = OTHERS[type(before)]()
        what = f"{type(before).__name__} -> {type(holder[key]).__name__}"
        yield Change(node.lineno, what, ast.unparse(tree))
        holder[key] = before


def _places(node: ast.AST) -> Iterator[ast.AST]:
    """Nodes that can be changed, below a node."""
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.arg)):
        return
    number = isinstance(node, ast.Constant) and type(node.value) in (int, float)
    sign = node.ops[0] if isinstance(node, ast.Compare) else getattr(node, "op", None)
    if number or type(sign) in OTHERS:
        yield node
    for name, value in ast.iter_fields(node):
        if name not in ("annotation", "returns"):
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.AST):
                    yield from _places(child)


def passes(folder: Path, tests: list[str]) -> bool:
    """Whether some tests pass in a copy of the checkout."""
    # Without .pyc files: one of the same size, of the same second, would be taken for the new one.
    command = [sys.executable, "-B", "-m", "pytest", "-xq", "-p", "no:cacheprovider", *tests]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, timeout=SLOWEST)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("file", type=Path)
    parser.add_argument("tests", nargs="+")
    parser.add_argument("--root", type=Path, default=ROOT, help="of the checkout")
    given = parser.parse_args()
    source, left, tried = (given.root / given.file).read_text(encoding="utf-8"), 0, 0
    with TemporaryDirectory() as name:
        folder = Path(name) / "checkout"
        shutil.copytree(given.root, folder, ignore=LEFT_OUT)
        if not passes(folder, given.tests):
            sys.exit(f"Error: {given.file}: the tests fail before anything is changed")
        for change in changes(source):
            (folder / given.file).write_text(change.source, encoding="utf-8")
            tried += 1
            if passes(folder, given.tests):
                left += 1
                line = source.splitlines()[change.line - 1].strip()
                print(f"{given.file}:{change.line}: {change.what}: {line}", flush=True)
    print(f"{given.file}: {left} of {tried} changes are seen by no test")
    return int(left > 0)


if __name__ == "__main__":
    sys.exit(main())
