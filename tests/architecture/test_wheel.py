"""The wheel carries what the package needs away from its repository, and nothing else."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """Build the wheel and list its files."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_it_carries_every_preset(members: set[str]) -> None:
    files = [path for path in (ROOT / "configs").rglob("*") if path.suffix in (".yaml", ".csv")]
    presets = {path.relative_to(ROOT).as_posix() for path in files}
    assert {Path(name).suffix for name in presets} == {".yaml", ".csv"}
    assert {f"nervecode/{preset}" for preset in presets} <= members


def test_it_carries_every_module_and_the_type_marker(members: set[str]) -> None:
    modules = {file.relative_to(ROOT).as_posix() for file in (ROOT / "nervecode").rglob("*.py")}
    assert modules | {"nervecode/py.typed"} <= members


def test_it_carries_nothing_else(members: set[str]) -> None:
    rooms = {name.partition("/")[0] for name in members if ".dist-info/" not in name}
    assert rooms == {"nervecode"}
    assert {Path(name).suffix for name in members if name.startswith("nervecode/")} <= {
        ".py",
        ".yaml",
        ".csv",
        ".typed",
        ".md",
        ".html",
        ".css",
        ".js",
    }
