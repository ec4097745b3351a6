"""The script that changes a file until a test sees it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    import mutate

    yield mutate
    sys.modules.pop("mutate", None)


def test_every_number_and_sign_is_changed_once(script: ModuleType) -> None:
    source = (
        'def f(x: int = 2) -> float:\n    """Of 3."""\n    return -x * 0.0 if x < 1 else x**4\n'
    )
    found = [(change.line, change.what) for change in script.changes(source)]
    assert sorted(found) == sorted(
        [
            (1, "2 -> 3"), (3, "Mult -> Div"), (3, "USub -> UAdd"), (3, "0.0 -> 0.5"),
            (3, "Lt -> LtE"), (3, "1 -> 2"), (3, "Pow -> Mult"), (3, "4 -> 5"),
        ]
    )  # fmt: skip
    sources = {change.source for change in script.changes(source)}
    assert len(sources) == len(found)
    assert not any("Of 4" in text for text in sources)


def test_what_is_raised_and_texts_stay(script: ModuleType) -> None:
    assert not list(script.changes("def f(x):\n    raise ValueError(f'{x + 1}', 2)\n"))


@pytest.mark.slow
def test_tests_run_in_the_copy(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "line.py").write_text("def line(x):\n    return x\n")
    (tmp_path / "test_line.py").write_text(
        "from line import line\n\n\ndef test_it():\n    assert line(1) == 1\n"
    )
    assert script.passes(tmp_path, ["test_line.py"])
    (tmp_path / "line.py").write_text("def line(x):\n    return 2\n")
    assert not script.passes(tmp_path, ["test_line.py"])


@pytest.mark.parametrize(("x", "y", "left"), [(0, 1, ["2 -> 3"]), (3, 7, []), (0, 5, None)])
def test_changes_that_no_test_sees_are_told(
    x: int,
    y: int,
    left: list[str] | None,
    script: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def passes(folder: Path, tests: list[str]) -> bool:
        code: dict[str, Any] = {}
        exec((folder / "line.py").read_text(), code)
        try:
            return bool(code["line"](x) == y)
        except ZeroDivisionError:
            return False

    monkeypatch.setattr(script, "passes", passes)
    (tmp_path / "line.py").write_text("def line(x):\n    return 2 * x + 1\n")
    argv = ["mutate.py", "line.py", "test_line.py", "--root", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", argv)
    if left is None:
        with pytest.raises(SystemExit, match="the tests fail before anything is changed"):
            script.main()
        return
    assert script.main() == bool(left)
    *lines, last = capsys.readouterr().out.splitlines()
    assert lines == [f"line.py:2: {what}: return 2 * x + 1" for what in left]
    assert last == f"line.py: {len(left)} of 4 changes are seen by no test"
