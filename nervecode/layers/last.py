"""LastTraces: what the layers said in each thread's last call of the model."""

from __future__ import annotations

import threading
from typing import NamedTuple

from torch import Tensor, nn

from nervecode.core import CodingTrace


class Traces(NamedTuple):
    """What the layers said in one call.

    Attributes:
        layers: layer -> trace.
        size: B; None where nothing tells.
        remark: why the codes do not hold for the call, in words; empty where they do, None where
            nobody looked.
        mask: (B, ...) true at the real positions of the call, where it tells.
        predicted: (B,) classes, where the calibration needs them from the output.
        coders: what coded them; None where that is not known.
    """

    layers: dict[str, CodingTrace]
    size: int | None = None
    remark: str | None = None
    mask: Tensor | None = None
    predicted: Tensor | None = None
    coders: nn.ModuleDict | None = None


NONE = Traces({})


class LastTraces:
    """The traces of each thread's last call; a copy or a pickle has none."""

    def __init__(self) -> None:
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

    def __reduce__(self) -> tuple[type[LastTraces], tuple[()]]:
        return LastTraces, ()
