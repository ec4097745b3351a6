"""Locks: one owner, dead owners that are found out, and takeovers that one process wins."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from nervecode.lab.run import lock as module
from nervecode.lab.run.lock import DEAD, Lock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".lock"


def gone() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write(path: Path, owner: Any, *, age: float = 0.0) -> None:
    path.write_text(owner if isinstance(owner, str) else json.dumps(owner))
    os.utime(path, (time.time() - age,) * 2)


def here(process: int) -> dict[str, Any]:
    return {"host": socket.gethostname(), "process": process}


def test_a_lock_names_its_owner_and_is_gone_after_its_release(path: Path) -> None:
    lock = Lock(path)
    assert not lock.is_held()
    assert lock.take() is None
    found = json.loads(path.read_text())
    assert (found["host"], found["process"]) == (socket.gethostname(), os.getpid())
    assert found["started"] <= found["heartbeat"]
    assert Lock(path).is_held()
    assert not Lock(path).is_stale()
    assert Lock(path).owner() == f"process {os.getpid()} on {socket.gethostname()}"
    with pytest.raises(FileExistsError):
        Lock(path).take()
    lock.release()
    assert list(path.parent.iterdir()) == []
    lock.release()


def test_an_owner_shows_signs_of_life(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT", 0.01)
    lock = Lock(path)
    lock.take()
    before = threading.active_count()
    with lock.beating():
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 10
        while path.stat().st_mtime < time.time() - 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert path.stat().st_mtime > time.time() - 60
    assert threading.active_count() == before
    assert json.loads(path.read_text())["process"] == os.getpid()
    lock.release()


@pytest.mark.parametrize(
    ("owner", "age", "held"),
    [
        (here(os.getpid()), 10 * DEAD, True),  # stopped, perhaps, but there
        (here(gone()), 0.0, False),
        (here(os.getpid()) | {"born": "1"}, 0.0, False),  # its number was given to another process
        (here(2**40), 0.0, False),
        ({"host": "elsewhere", "process": gone()}, 0.9 * DEAD, True),
        ({"host": "elsewhere", "process": os.getpid()}, 1.1 * DEAD, False),
        (here(gone()) | {"namespace": "pid:[1]"}, 0.9 * DEAD, True),  # another container
        (here(os.getpid()) | {"namespace": "pid:[1]"}, 1.1 * DEAD, False),
        *[
            (text, age, age < DEAD)
            for text in ("", "[]", '{"process": 1}', '{"host": "a", "process": -1}', "[" * 9999)
            for age in (0.9 * DEAD, 1.1 * DEAD)
        ],
    ],
    # Process numbers differ between the workers of a parallel run, whose tests must not.
    ids=lambda value: "owner" if isinstance(value, (dict, str)) else str(value),
)
def test_an_owner_is_gone_or_not(path: Path, owner: Any, age: float, held: bool) -> None:
    write(path, owner, age=age)
    lock = Lock(path)
    assert (lock.is_held(), lock.is_stale()) == (held, not held)
    if held:
        with pytest.raises(FileExistsError):
            lock.take()
        assert path.read_text() == (owner if isinstance(owner, str) else json.dumps(owner))
    else:
        assert lock.take() is not None
        assert json.loads(path.read_text())["process"] == os.getpid()
        lock.release()
    assert [p.name for p in path.parent.iterdir()] == [".lock"] * held


def test_a_process_that_only_waits_to_be_noticed_is_gone(path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read()  # it has ended, and nobody has asked for its status
    write(path, here(process.pid) | {"born": module._born(process.pid)})
    deadline = time.monotonic() + 10
    while module._born(process.pid) not in ("dead", "") and time.monotonic() < deadline:
        time.sleep(0.01)
    if module._born(process.pid) == "dead":
        write(path, here(process.pid) | {"born": "12345"})
        assert Lock(path).is_stale()
    process.wait()
    assert Lock(path).is_stale()


def test_of_many_takers_of_a_dead_lock_one_wins(path: Path) -> None:
    for _ in range(20):
        write(path, here(gone_once))
        barrier, won = threading.Barrier(8), []

        def race(barrier: threading.Barrier = barrier, won: list[Lock] = won) -> None:
            lock = Lock(path)
            barrier.wait()
            try:
                lock.take()
            except FileExistsError:
                return
            won.append(lock)

        threads = [threading.Thread(target=race) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # All may have met in the narrow place; never two came through.
        assert len(won) <= 1
        assert (json.loads(path.read_text())["process"] == os.getpid()) == bool(won)
        for lock in won:
            lock.release()
        path.unlink(missing_ok=True)
        assert list(path.parent.iterdir()) == []


gone_once = gone()


def test_a_slow_taker_does_not_remove_the_lock_of_a_quicker_one(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(path, here(gone_once))
    quick, slow = Lock(path), Lock(path)
    alive = Lock._alive

    def overtaken(self: Lock, owner: dict[str, Any]) -> bool:
        """Judges the owner; then, before the slow one acts, the quick one takes over."""
        found = alive(self, owner)
        monkeypatch.setattr(Lock, "_alive", alive)
        quick.take()
        return found

    monkeypatch.setattr(Lock, "_alive", overtaken)
    with pytest.raises(FileExistsError):
        slow.take()
    assert not quick.is_lost()
    quick.release()
    assert list(path.parent.iterdir()) == []


def test_a_taker_that_died_on_the_way_does_not_block_the_next(path: Path) -> None:
    write(path, here(gone_once))
    lock = Lock(path)
    owner = lock._read()
    assert owner is not None
    write(module_right(path, owner), here(gone_once))
    assert lock.take() == owner
    lock.release()
    assert list(path.parent.iterdir()) == []


def module_right(path: Path, owner: dict[str, Any]) -> Path:
    """The lock on the removal of a dead owner's lock."""
    found: list[Path] = []

    class Noted(Lock):
        def __init__(self, path: Path) -> None:
            super().__init__(path)
            found.append(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Lock", Noted)
        Lock(path)._clear()
    write(path, owner)
    return found[0]


def test_a_lock_that_cannot_be_written_is_not_left_behind(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Lock) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Lock, "_beat", full)
    with pytest.raises(OSError, match="No space left"):
        Lock(path).take()
    assert list(path.parent.iterdir()) == []


def test_a_lost_lock_is_noticed_and_left_to_its_new_owner(path: Path) -> None:
    lock = Lock(path)
    lock.take()
    path.unlink()
    write(path, here(os.getpid()) | {"token": "other"})
    assert lock.is_lost()
    lock.release()
    assert json.loads(path.read_text())["token"] == "other"
