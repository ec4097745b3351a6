"""LastTraces: what the layers said in each thread's last call of the model."""

from __future__ import annotations

import threading
from typing import NamedTuple

from nervecode.core import Call, CodingTrace
from nervecode.core.call import UNKNOWN_CALL


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
    """The traces of each thread's last call; a copy or a pickle has none."""

    def __init__(self) -> None:
        self.ran_unwatched = False  # the model, in any thread, since somebody asked
        self._local = threading.local()  # which torch.compile writes to as eager mode does

    def get(self) -> Traces:
        """Those of this thread; no layers before a call, or after one that nobody watched."""
        traces: Traces = getattr(self._local, "traces", NONE)
        return traces

    def keep(self, traces: Traces) -> None:
        """Take over those of a call."""
        self._local.traces = traces

    def forget(self) -> None:
        """Drop them."""
        self._local.traces = NONE

    def unwatched(self) -> None:
        """The model, or a part of it, runs while nobody watches."""
        self.ran_unwatched = True
        self.forget()

    def __reduce__(self) -> tuple[type[LastTraces], tuple[()]]:
        return LastTraces, ()
