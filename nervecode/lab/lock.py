"""Lock: a file that says which process writes to a run."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path


class Lock:
    """One writer: the file is created exclusively, and names its owner's host and process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def take(self) -> None:
        """Become the owner.

        Raises:
            FileExistsError: there is an owner already.
            OSError: the folder cannot be written.
        """
        handle = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        with os.fdopen(handle, "w") as file:
            json.dump({"host": socket.gethostname(), "process": os.getpid()}, file)

    def release(self) -> None:
        """Be no longer the owner; a lock that is gone already is no error."""
        self.path.unlink(missing_ok=True)

    def is_held(self) -> bool:
        """Whether the lock is there and its owner may still run."""
        try:
            owner = json.loads(self.path.read_text())
            if owner["host"] != socket.gethostname():
                return True  # process numbers mean nothing on another host
            os.kill(int(owner["process"]), 0)
        except PermissionError:
            return True
        except (OSError, ValueError, KeyError, TypeError):
            return False
        return True

    def is_stale(self) -> bool:
        """Whether the lock is there and its owner is gone."""
        return self.path.exists() and not self.is_held()

    def owner(self) -> str:
        """The owner, in words."""
        try:
            owner = json.loads(self.path.read_text())
            return f"process {owner['process']} on {owner['host']}"
        except (OSError, ValueError, KeyError, TypeError):
            return "another process"
