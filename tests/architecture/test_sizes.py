"""No class is too large to read: 20 methods and 220 lines, with those that it inherits."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "nervecode"
METHODS, LINES = 20, 220


def classes(package: Path) -> dict[str, ast.ClassDef]:
    """Class name, which is unique, -> its source."""
    return {
        node.name: node
        for file in package.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    }


def lineage(name: str, known: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """A class and the classes of the package that it inherits from."""
    if name in known:
        yield known[name]
        for base in known[name].bases:
            yield from lineage(ast.unparse(base).rpartition(".")[2].partition("[")[0], known)


def too_large(package: Path) -> dict[str, tuple[int, int]]:
    """Class name -> methods, of which an overridden one counts once, and lines."""
    known = classes(package)
    sizes = {}
    for name in known:
        own = list(lineage(name, known))
        functions = (ast.FunctionDef, ast.AsyncFunctionDef)
        methods = {part.name for node in own for part in node.body if isinstance(part, functions)}
        lines = sum((node.end_lineno or 0) - node.lineno + 1 for node in own)
        sizes[name] = len(methods), lines
    return {name: (m, n) for name, (m, n) in sizes.items() if m > METHODS or n > LINES}


def test_classes_are_small_with_what_they_inherit() -> None:
    assert too_large(PACKAGE) == {}


def test_a_class_that_inherits_too_much_is_seen(tmp_path: Path) -> None:
    method = "    def m{}(self): ...\n"
    base = "class Base:\n" + "".join(method.format(number) for number in range(15))
    heir = "class Heir(base.Base[int]):\n" + "".join(method.format(n) for n in range(10, 21))
    (tmp_path / "base.py").write_text(base)
    (tmp_path / "heir.py").write_text(heir)
    (tmp_path / "long.py").write_text("class Long:\n    x = (\n" + "        1 +\n" * 217 + "1)\n")
    (tmp_path / "longer.py").write_text("class Longer:\n    x = (" + "\n1 +" * 219 + "1)\n")
    assert too_large(tmp_path) == {"Heir": (21, 28), "Longer": (0, 221)}
