"""Watcher: scored records into a monitor, and what there is to tell of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nervecode.errors import ArtifactError, InputError, did_you_mean
from nervecode.lab.watch.calibration import BITS, CalibrationSet
from nervecode.lab.watch.times import InputTimes
from nervecode.monitor import Alarm, Monitor

P_VALUE, FLAG, PREDICTION, ID = "p_value", "flag", "prediction", "id"
POOLED = "pooled"  # only where p-values are within the predicted class: it is that of all classes
TRUE = ("True", "true", "1", True, 1)
FALSE = ("False", "false", "0", False, 0)


@dataclass(frozen=True)
class AlarmEvent:
    """An alarm, with the names that the stream gives to its inputs.

    Attributes:
        alarm: what the monitor says.
        id: of the input that raised it, where there is such a column.
        time: of that input, and `since_time` of about the first of the change.
    """

    alarm: Alarm
    id: str | None
    time: str | None
    since_time: str | None

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        own = {"id": self.id, "time": self.time, "since_time": self.since_time}
        return {"event": "alarm", **asdict(self.alarm), **own}

    def __str__(self) -> str:
        times = "" if self.time is None else f"; at {self.time}, since about {self.since_time}"
        return f"{self.alarm}{times}"


class Watcher:
    """A monitor of scored records, and counts of them.

    Args:
        calibrated: the calibration set behind the p-values.
        monitor: of that set.
        time: the column of times.
        ids: whether the column `id` must ascend.
        restart: collect evidence anew after each alarm.
    """

    def __init__(
        self,
        calibrated: CalibrationSet,
        monitor: Monitor,
        *,
        time: str | None = None,
        ids: bool = False,
        restart: bool = False,
    ) -> None:
        self.calibrated, self.monitor = calibrated, monitor
        self.time, self.ids, self.restart = time, ids, restart
        self.flagged = self.skipped = self.alarms = 0
        self.last_id: str | None = None
        self.times = InputTimes()

    def take(self, values: Mapping[str, Any], where: str) -> AlarmEvent | None:
        """Take a record; the alarm that it raises.

        Raises:
            InputError: a column is missing or holds what cannot be; the watcher is as it was.
        """
        time = None if self.time is None else str(_column(values, self.time, where))
        name = str(values[ID]) if values.get(ID) is not None else None
        if self.ids:
            self._check_order(str(_column(values, ID, where)), where)
        alarm = self._update(values, where)
        self.last_id = name if self.ids else None
        self.flagged += values.get(FLAG) in TRUE
        number = self.monitor.inputs
        if time is not None:
            self.times.tick(number, time)
        if alarm is None:
            return None
        self.alarms += 1
        if self.restart:
            self.monitor.restart()
        return AlarmEvent(alarm, name, time, self.times.at(alarm.since) if time else None)

    def _update(self, values: Mapping[str, Any], where: str) -> Alarm | None:
        monitor, layers = self.monitor, None
        if monitor.settings.layers:
            assert self.calibrated.layers is not None
            bits = [_number(values, BITS + name, where) for name in monitor.settings.layers]
            layers = self.calibrated.layers.p_values(bits, monitor.inputs)
        by_class = bool(monitor.settings.classes)
        p, predicted = input_of(values, self.calibrated, where, by_class=by_class)
        try:
            return monitor.update(p, layers=layers, predicted=predicted)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    def _check_order(self, name: str, where: str) -> None:
        if self.last_id is None:
            return
        last, this = (int(x) if x.isdecimal() else x for x in (self.last_id, name))
        if type(last) is not type(this):
            last, this = self.last_id, name
        if this == last:
            raise InputError(f"{where}: id {name!r} comes twice")
        if this < last:  # type: ignore[operator]
            raise InputError(f"{where}: id {name!r} comes after {self.last_id!r}, out of order")

    def state_dict(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return {
            "monitor": self.monitor.state_dict(),
            "times": self.times.state_dict(),
            "last_id": self.last_id,
            "flagged": self.flagged,
            "skipped": self.skipped,
            "alarms": self.alarms,
        }

    def load_state_dict(self, state: Any, where: str) -> None:
        """What `state_dict` gave.

        Raises:
            ArtifactError: it is damaged.
            InputError: it is of another calibration or other settings.
        """
        try:
            counts = [state[name] for name in ("flagged", "skipped", "alarms")]
            if not all(type(count) is int and count >= 0 for count in counts):
                raise ValueError(f"flagged, skipped and alarms are {counts}")
            self.times.load_state_dict(state["times"])
            self.monitor.load_state_dict(state["monitor"], where=where)
            self.last_id = state["last_id"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            if isinstance(error, InputError):
                raise
            raise ArtifactError(f"{where}: is damaged ({error})") from None
        self.flagged, self.skipped, self.alarms = counts


def input_of(
    values: Mapping[str, Any], calibrated: CalibrationSet, where: str, *, by_class: bool
) -> tuple[float, int | None]:
    """What a monitor takes of a record: its p-value, and the class that it is within.

    By class, p-values of all classes together become those within the predicted class; a record
    with a column `pooled` has them already, but for those that are pooled.

    Raises:
        InputError: a column is missing or holds what cannot be.
    """
    p = _number(values, P_VALUE, where)
    if not by_class:
        if POOLED in values:
            raise InputError(
                f"{where}: found a p-value within the predicted class (column {POOLED!r}), "
                "allowed: those of all classes together, as before"
            )
        return p, None
    predicted = _number(values, PREDICTION, where)
    if not predicted.is_integer():
        raise InputError(f"{where}: {PREDICTION}: found {predicted}, allowed: a class")
    if POOLED in values and not _truth(values, POOLED, where):
        return p, int(predicted)
    try:
        return calibrated.classes.p_value(p, int(predicted)), int(predicted)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _truth(values: Mapping[str, Any], name: str, where: str) -> bool:
    value = _column(values, name, where)
    if value not in (*TRUE, *FALSE):
        raise InputError(f"{where}: {name}: found {value!r}, allowed: True or False")
    return value in TRUE


def _column(values: Mapping[str, Any], name: str, where: str) -> Any:
    if name not in values:
        raise InputError(f"{where}: no {name!r}; {did_you_mean(name, map(str, values))}")
    if values[name] is None:
        raise InputError(f"{where}: {name}: found null, allowed: a value")
    return values[name]


def _number(values: Mapping[str, Any], name: str, where: str) -> float:
    value = _column(values, name, where)
    try:
        if isinstance(value, bool):
            raise TypeError
        return float(value)
    except (TypeError, ValueError):
        raise InputError(f"{where}: {name}: found {value!r}, allowed: a number") from None
