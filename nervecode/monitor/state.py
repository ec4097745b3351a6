"""The state of a stream as plain values, and several streams made one."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from nervecode.errors import ArtifactError, InputError
from nervecode.monitor.alarm import Alarm
from nervecode.monitor.bettors import KINDS
from nervecode.monitor.evidence import Evidence, log_mean
from nervecode.monitor.reference import Reference
from nervecode.monitor.settings import MonitorSettings
from nervecode.monitor.stream import StreamState

FORMAT = 2
REFERENCES = ("reference", "layer_reference")
EVIDENCE = ("score", "classes", "layers")


def as_plain(stream: StreamState) -> dict[str, Any]:
    """All of a stream as JSON holds it."""
    return {
        "format": FORMAT,
        "settings": stream.settings.plain(),
        "bettors": list(KINDS),
        "inputs": stream.inputs,
        "restarted": stream.restarted,
        "alarm": None if stream.alarm is None else asdict(stream.alarm),
        **{
            name: {key: array.tolist() for key, array in vars(getattr(stream, name)).items()}
            for name in (*REFERENCES, *EVIDENCE)
        },
    }


def from_plain(plain: Any, settings: MonitorSettings, where: str) -> StreamState:
    """The stream that `as_plain` wrote, where it is one of these settings.

    Raises:
        ArtifactError: it is damaged.
        InputError: it is of other settings.
    """
    try:
        stored, stream = plain["settings"], StreamState(settings)
        if plain["format"] != FORMAT or plain["bettors"] != list(KINDS):
            raise InputError(f"{where}: is the state of another version of the monitor")
        for key, wanted in settings.plain().items():
            if stored[key] != wanted:
                raise InputError(f"{where}: {key}: found {stored[key]}, allowed: {wanted}")
        stream.inputs, stream.restarted = int(plain["inputs"]), int(plain["restarted"])
        for name in (*REFERENCES, *EVIDENCE):
            _fill(getattr(stream, name), plain[name])
        if plain["alarm"] is not None:
            layers = tuple(plain["alarm"]["layers"])
            stream.alarm = Alarm(**{**plain["alarm"], "layers": layers})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise ArtifactError(f"{where}: is damaged ({error})") from None
    return stream


def _fill(part: Reference | Evidence, plain: Any) -> None:
    for key, empty in vars(part).items():
        array = np.array(plain[key], dtype=empty.dtype).reshape(empty.shape)
        if not np.isfinite(array).all():
            raise ValueError(f"{key} is not finite")
        setattr(part, key, array)


def merged(streams: Sequence[StreamState], base: StreamState) -> StreamState:
    """Streams that all went on from `base` as one: references add, evidence is the mean."""
    whole = copy.deepcopy(streams[0])
    whole.inputs = _sum([stream.inputs for stream in streams], base.inputs)
    since = [stream.inputs - stream.restarted for stream in streams]
    whole.restarted = whole.inputs - max(*since, _sum(since, base.inputs - base.restarted))
    for name in REFERENCES:
        for key, start in vars(getattr(base, name)).items():
            parts = [getattr(getattr(stream, name), key) for stream in streams]
            setattr(getattr(whole, name), key, _sum(parts, start))
    for name in EVIDENCE:
        setattr(whole, name, _mean(streams, name, whole.inputs))
    alarms = [stream.alarm for stream in streams if stream.alarm is not None]
    whole.alarm = min(alarms, key=lambda alarm: alarm.input) if alarms else None
    return whole


def _sum(parts: Sequence[Any], base: Any) -> Any:
    """The sum, in which what all of them began with counts once."""
    return sum(parts[1:], parts[0]) - (len(parts) - 1) * base


def _mean(streams: Sequence[StreamState], name: str, inputs: int) -> Evidence:
    """Evidence of that name: the mean wealth, and the largest gain."""
    parts: list[Evidence] = [getattr(stream, name) for stream in streams]
    mean = Evidence(len(parts[0].wealth))
    mean.wealth = np.logaddexp.reduce([part.wealth for part in parts]) - math.log(len(parts))
    mean.means = log_mean(mean.wealth)
    gains = np.stack([part.gain for part in parts])
    top = gains.argmax(0)[None]
    mean.gain = np.take_along_axis(gains, top, 0)[0]
    # It began as many inputs ago as it did for that worker.
    ages = np.stack([s.inputs - part.began for s, part in zip(streams, parts, strict=True)])
    mean.began = inputs - np.take_along_axis(ages, top, 0)[0]
    return mean
