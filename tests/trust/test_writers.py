"""Every writer goes through `replacing`, which leaves the old bytes or the new ones."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import SafetensorError

import nervecode
from nervecode.errors import NervecodeError
from nervecode.files import replacing, write_json, write_npz, write_text
from nervecode.scoring import EmpiricalPercentileCalibrator

PACKAGE = Path(nervecode.__file__).parent
WRITES = ("write_text", "write_bytes", "save_file", "savefig", "savez", "savez_compressed")
# Logs grow line by line; a lock is created, not replaced.
APART = (
    "cli/log.py", "files.py: path.open('a'", "lab/run/lock.py", "lab/sweep/launchers.py",
    "training/loggers.py",
)  # fmt: skip


def writes(node: ast.AST) -> bool:
    """Whether a call writes a file by its name."""
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute | ast.Name):
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
    if name in ("open", "fdopen"):
        texts = [a.value for a in node.args if isinstance(a, ast.Constant)]
        return any(isinstance(text, str) and set("wax+") & set(text) for text in texts)
    ours = isinstance(node.func, ast.Name) and name == "write_text"
    return name in WRITES and not ours


def unguarded(tree: ast.AST, guarded: bool = False) -> Iterator[str]:
    """Calls that write outside of a `with replacing(…)`."""
    if isinstance(tree, ast.With):
        guarded |= any("replacing(" in ast.unparse(item) for item in tree.items)
    if writes(tree) and not guarded:
        yield ast.unparse(tree)
    for child in ast.iter_child_nodes(tree):
        yield from unguarded(child, guarded)


def test_every_writer_replaces() -> None:
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}: {call}"
        for path in PACKAGE.rglob("*.py")
        for call in unguarded(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert {
        line for line in found if not line.startswith(APART) and "os.devnull" not in line
    } == set()


@pytest.mark.parametrize(
    "source",
    ["path.write_text('x')", "open(path, 'w')", "path.open('ab')", "np.savez(path)",
     "save_file(tensors, path)", "with lock: path.write_bytes(b'')"],
)  # fmt: skip
def test_a_writer_that_does_not_is_found(source: str) -> None:
    assert list(unguarded(ast.parse(source)))
    assert not list(unguarded(ast.parse(f"with replacing(x) as path:\n  {source}")))


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What happens to files and folders, in its order."""
    noted: list[str] = []
    sync, rename = os.fsync, os.replace

    def fsync(handle: int) -> None:
        target = os.readlink(f"/proc/self/fd/{handle}")
        noted.append(f"sync {'folder' if os.path.isdir(target) else 'file'}")
        sync(handle)

    def replace(source: Path, target: Path) -> None:
        noted.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    return noted


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs the names of open files")
@pytest.mark.parametrize("kind", ["text", "json", "npz", "wrapped", "calibrator"])
def test_bytes_reach_the_disk_before_their_name_does(
    kind: str, steps: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "new/x"
    if kind == "text":
        write_text(path, "x")
    elif kind == "json":
        write_json(path, {})
    elif kind == "npz":
        write_npz(path, {"a": np.zeros(3)})
    elif kind == "wrapped":
        model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 2))
        data = [(torch.randn(20, 2), torch.arange(20) % 2)]
        nervecode.wrap(model, layers="all_linear").fit(data).save(path)
    else:
        calibrator = EmpiricalPercentileCalibrator()
        calibrator.fit(torch.arange(9.0))
        calibrator.save(path)
    assert steps == ["sync folder", "sync file", "rename", "sync folder"]


def test_a_crash_before_the_rename_leaves_the_old_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    path.write_text("old")

    def crash(source: Path, target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", crash)
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_words_of_safetensors_for_a_full_disk_are_understood(tmp_path: Path) -> None:
    words = r"x: cannot be written \(I/O error: full\)"
    with pytest.raises(NervecodeError, match=words), replacing(tmp_path / "x"):
        raise SafetensorError("I/O error: full")
    assert list(tmp_path.iterdir()) == []
