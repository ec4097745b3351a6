"""No circle of imports: whoever reads a module can read what it needs first."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]


def circle(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """Modules that import each other in turn, the first one again at the end; none is good."""
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def arrows(package: str) -> dict[str, set[str]]:
    """Module -> the modules that it imports, within functions too; not those for types alone."""
    graph = grimp.build_graph(package, cache_dir=None, exclude_type_checking_imports=True)
    return {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}


def test_no_module_imports_itself_by_a_detour() -> None:
    found = arrows("nervecode")
    assert len(found) > 150
    assert circle(found) == []


def test_a_circle_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, source in {
        "__init__": "",
        "a": "from detour import b",
        "b": "def f():\n    import detour.c",
        "c": "from detour.a import x",
        "d": "import detour.a\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n"
        "    from detour.e import y",
        "e": "import detour.d",
    }.items():
        (tmp_path / "detour").mkdir(exist_ok=True)
        (tmp_path / "detour" / f"{module}.py").write_text(source)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    found = circle(arrows("detour"))
    assert set(found) == {"detour.a", "detour.b", "detour.c"}
    assert found[0] == found[-1]
