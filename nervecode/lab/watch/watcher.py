"""Watcher: scored records into a monitor, and what there is to tell of them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import Any

from nervecode.errors import ArtifactError, InputError, did_you_mean
from nervecode.lab.watch.calibration import BITS, CalibrationSet
from nervecode.lab.watch.marks import InputMarks, Mark
from nervecode.monitor import Alarm, Monitor

P_VALUE, SURPRISE, FLAG = "p_value", "surprise", "flag"
PREDICTION, ID = "prediction", "id"
POOLED = "pooled"  # only where p-values are within the predicted class: it is that of all classes
NUMBER = re.compile(r"[+-]?\d+(\.\d*)?")  # 9.0 is 9, of a column that has had gaps
TRUTH = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


@dataclass(frozen=True)
class AlarmEvent:
    """An alarm, with the names that the stream gives to its inputs.

    Attributes:
        alarm: what the monitor says.
        mark: the input that raised it.
        since: about the first of the change: the last input noted up to it.
    """

    alarm: Alarm
    mark: Mark
    since: Mark | None

    def plain(self) -> dict[str, Any]:
        """As JSON holds it."""
        since = self.since or Mark(0, None, None)
        return {
            "event": "alarm",
            **asdict(self.alarm),
            "id": self.mark.id,
            "time": self.mark.time,
            "since_id": since.id,
            "since_time": since.time,
        }

    def __str__(self) -> str:
        words = str(self.alarm)
        for word, name in (("id", "id"), ("at", "time")):
            here, then = getattr(self.mark, name), getattr(self.since, name, None)
            if here is not None:
                words += f"; {word} {here}, since about {then}"
        return words


class Watcher:
    """A monitor of scored records, and counts of them.

    Args:
        calibrated: the calibration set behind the p-values.
        monitor: of that set.
        time: the column of times.
        ids: whether the column `id` must ascend.
        restart: collect evidence anew after each alarm.

    Attributes:
        flagged: how many inputs were flagged; None where one had no flag.
        skipped: how many records were left out.
        alarms: how many were raised.
        last_id: where ids must ascend, that of the last input.
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
        self.skipped = self.alarms = 0
        self.flagged: int | None = 0
        self.last_id: str | None = None
        self.marks = InputMarks()

    def take(self, values: Mapping[str, Any], where: str) -> AlarmEvent | None:
        """Take a record; the alarm that it raises.

        Raises:
            InputError: a column is missing or holds what cannot be; the watcher is as it was.
        """
        time = None if self.time is None else str(_column(values, self.time, where))
        name = str(values[ID]) if values.get(ID) is not None else None
        if self.ids:
            self._check_order(str(_column(values, ID, where)), where)
        flag = flag_of(values, where)
        alarm = self._update(values, where)
        self.last_id = name if self.ids else None
        self.flagged = None if flag is None or self.flagged is None else self.flagged + flag
        mark = Mark(self.monitor.inputs, name, time)
        self.marks.note(mark)
        if alarm is None:
            return None
        self.alarms += 1
        if self.restart:
            self.monitor.restart()
        return AlarmEvent(alarm, mark, self.marks.at(alarm.since))

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
        last, this = _order(self.last_id), _order(name)
        if this == last:
            raise InputError(f"{where}: id {name!r} comes twice")
        if this < last:
            raise InputError(f"{where}: id {name!r} comes after {self.last_id!r}, out of order")

    def state_dict(self) -> dict[str, Any]:
        """All of it, as JSON holds it."""
        return {
            "monitor": self.monitor.state_dict(),
            "marks": self.marks.state_dict(),
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
            known = counts if counts[0] is not None else counts[1:]
            if not all(type(count) is int and count >= 0 for count in known):
                raise ValueError(f"flagged, skipped and alarms are {counts}")
            if not isinstance(state["last_id"], str | None):
                raise ValueError("last_id: an id is a text")
            self.marks.load_state_dict(state["marks"])
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
    predicted, within = None, False
    if by_class:
        number = _number(values, PREDICTION, where)
        if not number.is_integer():
            raise InputError(f"{where}: {PREDICTION}: found {number}, allowed: a class")
        predicted = int(number)
        within = POOLED in values and not _truth(values, POOLED, where)
    elif POOLED in values:
        raise InputError(
            f"{where}: found a p-value within the predicted class (column {POOLED!r}), "
            "allowed: those of all classes together, as before"
        )
    try:
        if values.get(SURPRISE) is not None:
            surprise = _number(values, SURPRISE, where)
            calibrated.check(p, surprise, predicted=predicted if within else None)
        if predicted is not None and not within:
            p = calibrated.classes.p_value(p, predicted)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return p, predicted


def flag_of(values: Mapping[str, Any], where: str) -> bool | None:
    """Whether a record is flagged; None where it does not say.

    Raises:
        InputError: it says something else.
    """
    return None if values.get(FLAG) in (None, "") else _truth(values, FLAG, where)


def _truth(values: Mapping[str, Any], name: str, where: str) -> bool:
    value = _column(values, name, where)
    truth = TRUTH.get(str(value).lower())
    if truth is None:
        raise InputError(f"{where}: {name}: found {value!r}, allowed: True or False")
    return truth


def _order(name: str) -> tuple[bool, Decimal, list[str]]:
    """What ids ascend by: numbers first, then paths, folder by folder as `score` sorts them."""
    if NUMBER.fullmatch(name):
        return False, Decimal(name), []
    return True, Decimal(), name.split("/")


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
