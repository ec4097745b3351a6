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
from nervecode.monitor.evidence import NOTHING, Evidence, log_mean
from nervecode.monitor.reference import Reference
from nervecode.monitor.settings import MonitorSettings
from nervecode.monitor.stream import StreamState

FORMAT = 2
REFERENCES = ("reference", "layer_reference")
EVIDENCE = ("score", "classes", "layers")
MOST = 1 << 53  # inputs that a stream can have
MOST_WON = 100.0  # nats that one input may win or lose, at most


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
        _check_settings(stored, settings.plain(), where)
        stream.inputs, stream.restarted = plain["inputs"], plain["restarted"]
        for name in (*REFERENCES, *EVIDENCE):
            _fill(getattr(stream, name), plain[name])
        if plain["alarm"] is not None:
            layers = tuple(plain["alarm"]["layers"])
            stream.alarm = Alarm(**{**plain["alarm"], "layers": layers})
        _check(stream)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise ArtifactError(f"{where}: is damaged ({error})") from None
    return stream


def _check_settings(stored: Any, wanted: dict[str, Any], where: str) -> None:
    promises = [
        next(f"{key} {held[key]:g}" for key in ("alpha", "run_length") if held[key] is not None)
        for held in (stored, wanted)
    ]
    for key, value in wanted.items():
        if stored[key] is None or value is None:  # the one promise in the place of the other
            if stored[key] != value:
                raise InputError(f"{where}: found {promises[0]}, allowed: {promises[1]}")
        elif stored[key] != value:
            raise InputError(f"{where}: {key}: found {stored[key]}, allowed: {value}")


def _check(stream: StreamState) -> None:
    """Refuse what no stream can have come to.

    Raises:
        ValueError: a count, a sum or an evidence that cannot be.
    """
    inputs, restarted = stream.inputs, stream.restarted
    if type(inputs) is not int or type(restarted) is not int or not 0 <= restarted <= inputs < MOST:
        raise ValueError(f"inputs: {inputs}, after a restart at {restarted}")
    start = StreamState(stream.settings)
    for name in REFERENCES:
        ours, least = getattr(stream, name), getattr(start, name)
        if (ours.seen < least.seen).any() or (ours.seen - least.seen > inputs).any():
            raise ValueError(f"{name}: seen: {ours.seen.tolist()} for {inputs} inputs")
        if (ours.sums < least.sums).any():
            raise ValueError(f"{name}: sums are less than those of the calibration set")
    for name in EVIDENCE:
        part: Evidence = getattr(stream, name)
        grown = MOST_WON * (inputs + 1)
        if (part.wealth > grown).any() or (part.wealth < NOTHING * 1.01).any():
            raise ValueError(f"{name}: wealth that {inputs} inputs cannot give")
        if not np.allclose(part.means, log_mean(part.wealth), rtol=1e-9, atol=1e-9):
            raise ValueError(f"{name}: means are not those of wealth")
        if (np.abs(part.gain) > grown).any() or (part.began < 0).any():
            raise ValueError(f"{name}: gain that {inputs} inputs cannot give")
    if stream.alarm is not None and stream.alarm.kind not in KINDS:
        raise ValueError(f"alarm of kind {stream.alarm.kind!r}")


def _fill(part: Reference | Evidence, plain: Any) -> None:
    for key, empty in vars(part).items():
        array = np.array(plain[key]) if empty.size else empty
        if array.dtype.kind not in ("i" if empty.dtype.kind == "i" else "if"):
            raise ValueError(f"{key} is not made of numbers as it should be")
        array = array.astype(empty.dtype).reshape(empty.shape)
        if not np.isfinite(array).all():
            raise ValueError(f"{key} is not finite")
        setattr(part, key, array)


def check_base(streams: Sequence[StreamState], base: StreamState) -> None:
    """Refuse a base that has seen what one of the streams has not.

    Raises:
        InputError: likewise.
    """
    for stream in streams:
        if stream.inputs < base.inputs or not all(
            (array >= vars(getattr(base, name))[key]).all()
            for name in REFERENCES
            for key, array in vars(getattr(stream, name)).items()
        ):
            raise InputError(
                f"merge: found a monitor of {stream.inputs} inputs that are not those of base "
                f"({base.inputs}) and more, allowed: monitors that began as copies of base"
            )


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
