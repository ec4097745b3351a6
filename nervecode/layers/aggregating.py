"""The surprise of a call's traces, where the codes are still those that read it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch

from nervecode.core import Call, CodingTrace
from nervecode.errors import NotReadyError
from nervecode.layers.guard.condition import CHANGED
from nervecode.layers.last_traces import Traces
from nervecode.layers.reading import apart, reason
from nervecode.layers.watched import Watched
from nervecode.scoring.aggregate import aggregate
from nervecode.scoring.surprise import AggregatedSurprise, unknown_surprise

UNTRACED = (
    "surprise: no trace; run a forward of the wrapped model with coding enabled, and ask before "
    "the model runs otherwise; score(x) gives output and surprise of one call"
)
REPLACED = "the codes were replaced since the call, or are another wrapper's, also of the same file"
EARLIER = "the calibration is of other weights than the call, or later than it"


def asked(watched: Watched, traces: Traces, method: str | None) -> AggregatedSurprise:
    """The surprise that a caller asks for, after a call that left traces."""
    if not traces.layers:
        raise NotReadyError(UNTRACED)
    return _judged(watched, traces, method)


def given(watched: Watched, traces: Mapping[str, CodingTrace]) -> Traces:
    """Traces with the first of their calls that makes them invalid, if one does."""
    calls = [trace.call for trace in traces.values()]
    masked = any(call.masked for call in calls)  # layers before a masked part know nothing of it
    calls = [call._replace(masked=masked) for call in calls]
    if watched.calibration is not None:
        calls.sort(key=lambda call: not _misfit(watched, call, traces))
    return Traces(dict(traces), *calls[:1])


def _judged(watched: Watched, traces: Traces, method: str | None = None) -> AggregatedSurprise:
    """The surprise of some traces; what is to be remarked on is told."""
    calibration, call = watched.calibration, traces.call
    # Asked last: a fit drops the calibration first.
    remark = call.remark if calibration is None else _misfit(watched, call, traces.layers)
    surprise = aggregate(
        traces.layers,
        calibration,
        method,
        size=call.size,
        predicted=call.predicted,
        remark=remark,
    )
    if surprise.remark and not torch.compiler.is_compiling():  # a whole graph cannot warn
        watched._remarks.tell(surprise.remark, about=surprise.remark.partition(":")[0])
    return surprise


def _misfit(watched: Watched, call: Call, layers: Iterable[str]) -> str:
    """Why the codes, as they are calibrated, are not those of a call, in words."""
    condition, calibration = watched.condition, watched.calibration
    if not call.codes:
        return condition.complaint(watched.model)
    if call.codes != condition.codes:
        return REPLACED
    if call.weights != condition.digest:
        return EARLIER
    if calibration is not None and (misfit := calibration.calls.misfit(call, layers)):
        return misfit
    if call.remark or call.looked or torch.compiler.is_compiling():
        return call.remark
    return "" if condition.has_weights_of(watched.model) else CHANGED


def surprise_of(watched: Watched, traces: Traces) -> AggregatedSurprise:
    """The surprise of a call, whatever went wrong."""
    try:
        with apart(grad=torch.is_grad_enabled()):
            return _judged(watched, traces)
    except Exception as error:
        watched._remarks.tell(f"score: {reason(error)}")
        calibration, size = watched.calibration, traces.call.size or 0
        if calibration is None:
            return unknown_surprise(size, reason(error))
        return calibration.score({}, size=size, remark=reason(error))
