"""Link: what the ranks of one job tell each other beside tensors: plain values, and signs of life.

A rank that works alone for an hour is waited for; one that has ended or stands still is not. So
values go through the job's store and are waited for as long as their sender shows signs of life,
while operations on tensors, in which all ranks take part at once, have a short time-out.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from contextlib import suppress
from typing import Any

from torch.distributed import Store  # type: ignore[attr-defined]

from nervecode.errors import NervecodeError, first_line

BEAT = 1.0  # seconds between two signs of life
GRACE = 6.0  # seconds that a rank has to end by itself once the job is over
OVER = "over"


class PeerLost(NervecodeError):
    """Another rank failed, ended or stands still; the message says which, and why."""


class Link:
    """The store of a job, as one of its ranks sees it.

    Args:
        store: shared by all ranks.
        rank: of this process.
        world: number of ranks.
        patience: seconds without a sign of life after which a rank counts as lost.

    Attributes:
        turn: how many common operations this rank has begun; all ranks begin the same ones.
    """

    def __init__(self, store: Store, rank: int, world: int, *, patience: float) -> None:
        self.store, self.rank, self.world, self.patience = store, rank, world, patience
        self.turn = 0
        self._seen: dict[int, tuple[str, float]] = {}  # rank -> its last sign, and when it was new
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._live, name="signs of life", daemon=True)
        self._beat(0)
        self._thread.start()

    def close(self) -> None:
        """Show no more signs of life."""
        self._closing.set()
        self._thread.join()

    # Values

    def put(self, key: str, value: Any) -> None:
        """Leave a plain value for the other ranks.

        Raises:
            PeerLost: the store is gone.
        """
        try:
            self.store.set(key, json.dumps(value))
        except RuntimeError as error:
            raise PeerLost(_no_store(error)) from None

    def get(self, key: str, rank: int) -> Any:
        """The value that a rank puts, however long it works for it.

        Raises:
            PeerLost: the job is over, or the rank shows no sign of life.
        """
        pause, looked = 0.001, time.monotonic()
        try:
            while not self.store.check([key]):
                if time.monotonic() - looked > BEAT:
                    self._check(rank)
                    looked = time.monotonic()
                time.sleep(pause)
                pause = min(2 * pause, 0.05)
            return json.loads(self.store.get(key))
        except RuntimeError as error:
            if isinstance(error, NervecodeError):
                raise
            raise PeerLost(_no_store(error)) from None

    # The end of a job

    def declare(self, cause: str) -> str:
        """Let all ranks know why the job is over; returns the first cause that was declared."""
        with suppress(RuntimeError):
            first: bytes = self.store.compare_set(OVER, "", cause)
            return first.decode()
        return cause

    def blame(self, error: Exception) -> PeerLost:
        """Which rank is why a common operation failed here: one that says so, is gone, or late."""
        before, deadline = self._signs(), time.monotonic() + 3 * BEAT
        while (cause := self._cause()) is None and time.monotonic() < deadline:
            time.sleep(0.1)
        suspect = self._suspect(before) or f"another rank does not answer: {first_line(error)}"
        return PeerLost(cause or self.declare(suspect))

    def _suspect(self, before: dict[int, dict[str, Any]]) -> str:
        after = self._signs()
        gone = [r for r in before.keys() & after if after[r]["beat"] == before[r]["beat"]]
        late = [r for r, sign in after.items() if sign["turn"] < self.turn]
        if gone:
            return self._without_a_sign(gone[0], after[gone[0]])
        if late:
            who = _name(late[0], after[late[0]])
            return f"{who} did not come to step {self.turn} within {self.patience:g} s"
        return ""

    def _without_a_sign(self, rank: int, sign: dict[str, Any]) -> str:
        if sign["host"] == socket.gethostname():
            with suppress(OSError):  # one that was stopped can read that the job is over, and end
                os.kill(sign["process"], signal.SIGCONT)
        return f"{_name(rank, sign)} shows no sign of life: it was killed or stopped"

    def _check(self, rank: int) -> None:
        cause = self._cause()
        if cause is not None:
            raise PeerLost(cause)
        text, now = self.store.get(f"beat/{rank}").decode(), time.monotonic()
        known, since = self._seen.get(rank, ("", now))
        if text != known:
            self._seen[rank] = (text, now)
        elif now - since > self.patience:
            raise PeerLost(self.declare(self._without_a_sign(rank, json.loads(text))))

    def _cause(self) -> str | None:
        try:
            return self.store.get(OVER).decode() if self.store.check([OVER]) else None
        except RuntimeError as error:
            return _no_store(error)

    def _signs(self) -> dict[int, dict[str, Any]]:
        """Rank -> its last sign of life, for the others."""
        signs = {}
        with suppress(RuntimeError):
            for rank in range(self.world):
                if rank != self.rank:
                    signs[rank] = json.loads(self.store.get(f"beat/{rank}"))
        return signs

    # Signs of life

    def _beat(self, number: int) -> None:
        here = {"host": socket.gethostname(), "process": os.getpid()}
        sign = {"beat": number, "turn": self.turn, **here}
        self.store.set(f"beat/{self.rank}", json.dumps(sign))

    def _live(self) -> None:
        number = 0
        while not self._closing.wait(BEAT):
            number += 1
            try:
                self._beat(number)
                over = self.store.check([OVER])
            except RuntimeError:  # who started this process is gone: save, and end
                return self._leave(0.0, self.patience)
            if over:
                return self._leave(GRACE, GRACE)

    def _leave(self, *pauses: float) -> None:
        """See that this process ends, whatever its main thread waits for."""
        for pause in pauses:
            if self._closing.wait(pause):
                return
            os.kill(os.getpid(), signal.SIGTERM)
        if not self._closing.wait(GRACE):
            os._exit(128 + signal.SIGTERM)


def name_here(rank: int) -> str:
    """This process, in words."""
    return _name(rank, {"host": socket.gethostname(), "process": os.getpid()})


def _name(rank: int, sign: dict[str, Any]) -> str:
    return f"rank {rank} (process {sign['process']} on {sign['host']})"


def _no_store(error: Exception) -> str:
    return f"the process that holds the job together is gone ({first_line(error)})"
