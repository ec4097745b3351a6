"""The state of a stream as plain values, and several streams made one."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from nervecode.errors import ArtifactError, InputError
from nervecode.monitor.alarm import Alarm
from nervecode.monitor.bettors import KINDS, prices
from nervecode.monitor.evidence import NOTHING, Evidence, log_mean
from nervecode.monitor.reference import FULL, Reference
from nervecode.monitor.settings import MonitorSettings
from nervecode.monitor.stream import StreamState
from nervecode.monitor.ties import MASK

FORMAT = 3
COUNTS = ("inputs", "restarted", "merged", "salt")
REFERENCES = ("reference", "layer_reference")
EVIDENCE = ("score", "classes", "layers")
PROMISES = ("alpha", "run_length")
MOST = 1 << 53  # inputs that a stream can have
MOST_WON = 100.0  # nats that one input may win or lose, at most


def as_plain(stream: StreamState) -> dict[str, Any]:
    """All of a stream as JSON holds it."""
    return {
        "format": FORMAT,
        "settings": stream.settings.plain(),
        "bettors": list(KINDS),
        **{name: getattr(stream, name) for name in COUNTS},
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
        for name in COUNTS:
            setattr(stream, name, plain[name])
        for name in (*REFERENCES, *EVIDENCE):
            _fill(getattr(stream, name), plain[name])
        _check(stream)
        if plain["alarm"] is not None:
            stream.alarm = _alarm(plain["alarm"], stream)
    except (LookupError, TypeError, ValueError, OverflowError, AttributeError) as error:
        if isinstance(error, InputError):
            raise
        raise ArtifactError(f"{where}: is damaged ({error})") from None
    return stream


def _check_settings(stored: Any, wanted: dict[str, Any], where: str) -> None:
    for key, value in wanted.items():
        if key in PROMISES and (stored[key] is None) != (value is None):
            kinds = [_promise(held) for held in (stored, wanted)]
            raise InputError(f"{where}: found {kinds[0]}, allowed: {kinds[1]}")
        if stored[key] != value:
            if key in ("ties", "seed"):
                raise InputError(f"{where}: found other equal calibration scores, allowed: these")
            raise InputError(
                f"{where}: {key}: found {_brief(stored[key])}, allowed: {_brief(value)}"
            )


def _promise(settings: Any) -> str:
    kept = [f"{key} {_brief(settings[key])}" for key in PROMISES if settings[key] is not None]
    return kept[0] if kept else "neither alpha nor run_length"


def _brief(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _check(stream: StreamState) -> None:
    """Refuse what no stream can have come to.

    Raises:
        ValueError: a count, a sum or an evidence that cannot be.
    """
    inputs = stream.inputs
    if any(type(getattr(stream, name)) is not int for name in COUNTS) or not inputs < MOST:
        raise ValueError(f"inputs: {inputs}")
    if not 0 <= stream.restarted <= inputs or not 0 <= stream.merged <= inputs:
        raise ValueError(f"{inputs} inputs, restarted at {stream.restarted}")
    if not 0 <= stream.salt <= MASK:
        raise ValueError(f"salt: {stream.salt}")
    start = StreamState(stream.settings)
    for name in REFERENCES:
        _check_reference(name, getattr(stream, name), getattr(start, name), inputs)
    for name in EVIDENCE:
        part: Evidence = getattr(stream, name)
        grown = MOST_WON * (inputs + 1)
        if (part.wealth > grown).any() or (part.wealth < NOTHING * 1.01).any():
            raise ValueError(f"{name}: wealth that {inputs} inputs cannot give")
        with np.errstate(under="ignore"):
            means = log_mean(part.wealth)
        if not np.allclose(part.means, means, rtol=1e-9, atol=1e-9):
            raise ValueError(f"{name}: means are not those of wealth")
        if (np.abs(part.gain) > grown).any():
            raise ValueError(f"{name}: gain that {inputs} inputs cannot give")
        if (part.began < 0).any() or (part.began > inputs).any():
            raise ValueError(f"{name}: began with an input that has not been")


def _check_reference(name: str, ours: Reference, least: Reference, inputs: int) -> None:
    taken = ours.seen - least.seen
    rows = taken if name == "layer_reference" else taken.sum(keepdims=True)
    if (taken < 0).any() or (rows > inputs).any():
        raise ValueError(f"{name}: seen: {ours.seen.tolist()} for {inputs} inputs")
    paid = ours.sums.astype(float) - least.sums  # each input between the lowest price and the top
    ends = prices(np.stack([1 / least.seen, np.full(len(taken), 0.5), np.ones(len(taken))]))
    if (paid < 0).any() or (paid > 1.01 * taken[:, None] * ends.max(0)).any():
        raise ValueError(f"{name}: sums that {inputs} inputs cannot give")


def _alarm(plain: Any, stream: StreamState) -> Alarm:
    """A stored alarm.

    Raises:
        ValueError: it is none of this stream.
    """
    alarm = Alarm(**{**plain, "layers": tuple(plain["layers"])})
    classes = [label for label, _ in stream.settings.classes]
    counts = alarm.input, alarm.since
    if not all(type(count) is int for count in counts) or not (
        1 <= alarm.since <= alarm.input <= stream.inputs
    ):
        raise ValueError(f"alarm at input {alarm.input!r}, since {alarm.since!r}")
    evidence = alarm.log10_evidence
    if type(evidence) not in (int, float) or not math.isfinite(evidence):
        raise ValueError(f"alarm with evidence {evidence!r}")
    if alarm.kind not in KINDS:
        raise ValueError(f"alarm of kind {alarm.kind!r}")
    if not all(layer in stream.settings.layers for layer in alarm.layers):
        raise ValueError(f"alarm of layers {alarm.layers}")
    if alarm.predicted is not None and alarm.predicted not in classes:
        raise ValueError(f"alarm of class {alarm.predicted!r}")
    return replace(alarm, log10_evidence=float(evidence))


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
    """Refuse a base that has seen what one of the streams has not, or lacks what they share.

    Raises:
        InputError: likewise.
    """
    for stream in streams:
        if stream.merged and not base.inputs:
            raise InputError(
                f"merge: found a monitor that was merged before, at {stream.merged} inputs, which "
                "would count again, allowed: base, the monitor that all of them were copies of"
            )
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
    whole.salt = _sum([stream.salt for stream in streams], base.salt) & MASK
    since = [stream.inputs - stream.restarted for stream in streams]
    whole.restarted = whole.inputs - max(*since, _sum(since, base.inputs - base.restarted))
    for name in REFERENCES:
        for key, start in vars(getattr(base, name)).items():
            parts = [getattr(getattr(stream, name), key) for stream in streams]
            if sum(float(part.max(initial=0)) for part in parts) >= FULL:
                raise InputError(f"merge: {name}: the sums of all are too large for 64 bits")
            setattr(getattr(whole, name), key, _sum(parts, start))
    for name in EVIDENCE:
        setattr(whole, name, _mean(streams, name, whole.inputs))
    alarms = [
        _renumbered(stream.alarm, whole.inputs - stream.inputs)
        for stream in streams
        if stream.alarm is not None
    ]
    whole.alarm = min(alarms, key=lambda alarm: alarm.input) if alarms else None
    whole.merged = whole.inputs
    return whole


def _renumbered(alarm: Alarm, later: int) -> Alarm:
    return replace(alarm, input=alarm.input + later, since=alarm.since + later)


def _sum(parts: Sequence[Any], base: Any) -> Any:
    """The sum, in which what all of them began with counts once."""
    return sum(parts[1:], parts[0]) - (len(parts) - 1) * base


def _mean(streams: Sequence[StreamState], name: str, inputs: int) -> Evidence:
    """Evidence of that name: the mean wealth, and the largest gain."""
    parts: list[Evidence] = [getattr(stream, name) for stream in streams]
    mean = Evidence(len(parts[0].wealth))
    with np.errstate(under="ignore"):
        mean.wealth = np.logaddexp.reduce([part.wealth for part in parts]) - math.log(len(parts))
        mean.means = log_mean(mean.wealth)
    gains = np.stack([part.gain for part in parts])
    top = gains.argmax(0)[None]
    mean.gain = np.take_along_axis(gains, top, 0)[0]
    # It began as many inputs ago as it did for that worker.
    ages = np.stack([s.inputs - part.began for s, part in zip(streams, parts, strict=True)])
    mean.began = inputs - np.take_along_axis(ages, top, 0)[0]
    return mean
