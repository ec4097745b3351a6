"""Lock: a file that says which process writes to a run, and when it last showed a sign of life."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from nervecode.errors import NervecodeError
from nervecode.lab.run.meta import now

BEAT = 15.0  # seconds between two signs of life
DEAD = 300.0  # seconds without one, after which an owner on another host counts as gone

Owner = dict[str, Any]


class Lock:
    """One writer: the file is created exclusively, and names its owner and its heartbeat.

    An owner on this host is gone when its process is; one on another host, whose process numbers
    mean nothing here, when the file has not been touched for `DEAD` seconds.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mine: Owner = {}
        self._file: TextIO | None = None

    def take(self) -> Owner | None:
        """Become the owner; returns the dead owner whose place was taken, if there was one.

        Raises:
            FileExistsError: there is an owner already.
            OSError: the folder cannot be written.
        """
        gone = self._clear()
        handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        self._file = os.fdopen(handle, "w", encoding="utf-8")
        self._mine = {**_here(), "started": now(), "token": secrets.token_hex(8)}
        try:
            self._beat()
        except OSError:
            self.path.unlink(missing_ok=True)
            self._close()
            raise
        return gone

    def release(self) -> None:
        """Be no longer the owner; a lock that another has taken over is left alone."""
        if self._file is not None:
            self._close()
            if not self._lost():
                self.path.unlink(missing_ok=True)

    @contextmanager
    def held(self, doing: str) -> Iterator[Owner | None]:
        """Own the lock within the block; gives the dead owner whose place was taken, if any.

        Args:
            doing: what another owner does, in words.

        Raises:
            NervecodeError: there is another owner, or the folder cannot be written.
        """
        folder = self.path.parent
        try:
            gone = self.take()
        except FileExistsError:
            raise NervecodeError(f"{folder}: {self.owner()} {doing}") from None
        except OSError as error:
            raise NervecodeError(f"{folder}: cannot be written ({error.strerror})") from None
        try:
            with self.beating():
                yield gone
        finally:
            self.release()

    @contextmanager
    def beating(self) -> Iterator[None]:
        """Within it, a thread shows a sign of life every `BEAT` seconds."""
        stop = threading.Event()

        def beat() -> None:
            while not stop.wait(BEAT):
                with suppress(OSError, ValueError):  # a disk that fails is the work's to tell
                    self._beat()

        thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()

    def is_held(self) -> bool:
        """Whether the lock is there and its owner may still run."""
        owner = self._read()
        return owner is not None and self._alive(owner)

    def is_stale(self) -> bool:
        """Whether the lock is there and its owner is gone."""
        owner = self._read()
        return owner is not None and not self._alive(owner)

    def is_lost(self) -> bool:
        """Whether this process took the lock, and another has taken it over since."""
        return self._file is not None and self._lost()

    def owner(self) -> str:
        """The owner, in words."""
        return name_of(self._read() or {})

    def _close(self) -> None:
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None

    def _lost(self) -> bool:
        return bool((self._read() or {}).get("token") != self._mine["token"])

    def _beat(self) -> None:
        """Write the owner into the file that was created, wherever its name leads by now."""
        assert self._file is not None
        self._file.seek(0)
        self._file.write(json.dumps({**self._mine, "heartbeat": now()}))
        self._file.flush()

    def _read(self) -> Owner | None:
        """The owner; None without a lock; empty where the file says nothing that makes sense."""
        try:
            written = json.loads(self.path.read_text(encoding="utf-8"))
            host, process = str(written["host"]), int(written["process"])
            owner = {**written, "host": host, "process": process}
            return owner if owner["process"] > 0 else {}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
            return {}

    def _alive(self, owner: Owner) -> bool:
        here = _here()
        if owner and all(owner.get(key, here[key]) == here[key] for key in ("host", "namespace")):
            return _runs(owner["process"], owner.get("born", ""))
        try:
            return time.time() - self.path.stat().st_mtime < DEAD
        except FileNotFoundError:
            return False

    def _clear(self) -> Owner | None:
        """Remove the lock of a dead owner, which one process alone may do.

        The right to remove this very lock is a lock of its own; without it, a slow process could
        remove the lock of the one that was quicker to take over.
        """
        owner = self._read()
        if owner is None or self._alive(owner):
            return None
        text = json.dumps(owner, sort_keys=True)
        name = f"{self.path.name}.{hashlib.sha256(text.encode()).hexdigest()[:16]}"
        right = Lock(self.path.with_name(name))
        right.take()
        try:
            if self._read() != owner:
                return None
            self.path.unlink()
            return owner
        finally:
            right.release()


def name_of(owner: Owner) -> str:
    """An owner, in words."""
    return f"process {owner['process']} on {owner['host']}" if owner else "another process"


def _here() -> Owner:
    """This process, and where its number means something: a host, and a container in it."""
    try:
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:
        namespace = ""
    process = os.getpid()
    host = socket.gethostname()
    return {"host": host, "namespace": namespace, "process": process, "born": _born(process)}


def _runs(process: int, born: str) -> bool:
    """Whether a process of this host runs; another that was given its number since does not count.

    Where the system does not tell when a process began, its number is believed.
    """
    try:
        os.kill(process, 0)
    except PermissionError:
        pass
    except (OSError, OverflowError):
        return False
    now_born = _born(process)
    return now_born != "dead" and (not now_born or not born or now_born == born)


def _born(process: int) -> str:
    """When a process began, in the kernel's ticks; `dead` for one that only waits to be noticed."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return ""
    return "dead" if fields[0] in "ZX" else fields[19]
