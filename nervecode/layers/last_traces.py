"""LastTraces: what the layers said in each thread's or asyncio task's last call of the model."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch

from nervecode.core import Call, CodingTrace
from nervecode.core.call import UNKNOWN_CALL, is_recomputed


class Traces(NamedTuple):
    """What the layers said in one call.

    Attributes:
        layers: layer -> trace.
        call: what is known of the call.
    """

    layers: dict[str, CodingTrace]
    call: Call = UNKNOWN_CALL


NONE = Traces({})


class LastTraces:
    """The traces of each thread's last call, and of each task's of a thread that runs several.

    A copy or a pickle has none. What `torch.compile` traces cannot ask which task it is of: there,
    the tasks of a thread share the last call.
    """

    def __init__(self) -> None:
        self.ran_unwatched = False  # the model, in any thread, since somebody asked
        self._local = threading.local()  # which torch.compile writes to as eager mode does
        self._tasks: WeakKeyDictionary[asyncio.Task[Any], Traces] = WeakKeyDictionary()

    def get(self) -> Traces:
        """Those of this thread or task; no layers before a call, or after an unwatched one."""
        if is_recomputed():
            return NONE  # those that are kept are of another call
        traces: Traces = getattr(self._local, "traces", NONE)
        if torch.compiler.is_compiling() or traces is not getattr(self._local, "asked", None):
            return traces
        if (task := _task()) is not None:
            return self._tasks.get(task, NONE)
        return NONE if self._local.by_task else traces

    def keep(self, traces: Traces) -> None:
        """Store those of a call as the last of this thread or task."""
        if is_recomputed():
            return
        self._local.traces = traces
        if torch.compiler.is_compiling():
            return
        task = _task()
        self._local.asked, self._local.by_task = traces, task is not None
        if task is not None:
            self._tasks[task] = traces

    def forget(self) -> None:
        """Drop them."""
        self.keep(Traces({}))

    def unwatched(self) -> None:
        """The model, or a part of it, runs while nobody watches."""
        self.ran_unwatched = True
        self.forget()

    def __reduce__(self) -> tuple[type[LastTraces], tuple[()]]:
        return LastTraces, ()


def _task() -> asyncio.Task[Any] | None:
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs in this thread
        return None
