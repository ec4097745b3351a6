"""WatchJob: a scored file, growing or not, or a pipe, watched to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nervecode.errors import ArtifactError, InputError
from nervecode.files import read_json, write_json, write_text
from nervecode.lab.machine.interrupt import deferred
from nervecode.lab.watch.calibration import CalibrationSet
from nervecode.lab.watch.metrics import metrics_text
from nervecode.lab.watch.outputs import check_outputs
from nervecode.lab.watch.tail import PIPE, WAIT, Place, Record, Tail
from nervecode.lab.watch.watcher import POOLED, AlarmEvent, Watcher

SAVED_EVERY = 5.0  # seconds
FORMAT = 1


@dataclass(frozen=True)
class Heard:
    """Who is told what while a job works.

    Attributes:
        alarm: an alarm, as it is raised.
        notice: a remark.
        moment: the watcher, after each record and each wait.
    """

    alarm: Callable[[AlarmEvent], None]
    notice: Callable[[str], None]
    moment: Callable[[Watcher], None]


@dataclass(frozen=True)
class WatchJob:
    """What is watched, against which calibration set, with which promise.

    Attributes:
        source: a `.csv` or `.jsonl` file, or `-`.
        calibration: how many calibration inputs are behind the p-values; None takes a run's.
        run: whose calibration set it is: layers are watched too.
        seed: of the run; None takes the first.
        by_class: watch p-values within the predicted class, also where the source has those of all
            classes; needs a run.
        alpha, run_length: as of `Monitor`.
        follow: wait for more at the end of the file.
        until_alarm: end at an alarm.
        restart: collect evidence anew after each alarm.
        state: the file in which the job goes on where it stood.
        metrics: the file of counters.
        time: the column of times.
        ids: the column `id` must ascend.
        skip_bad: leave unreadable records out.
    """

    source: str
    calibration: int | None = None
    run: Path | None = None
    seed: int | None = None
    by_class: bool = False
    alpha: float | None = None
    run_length: float | None = None
    follow: bool = False
    until_alarm: bool = False
    restart: bool = False
    state: Path | None = None
    metrics: Path | None = None
    time: str | None = None
    ids: bool = False
    skip_bad: bool = False

    def work(self, heard: Heard) -> Watcher:
        """Watch to the end of the source, to an alarm, or until interrupted.

        Records before a bad one count; where it goes on next is before the bad one.

        Raises:
            InputError: a source, a record, an output, a calibration set or a promise that cannot
                be.
            ArtifactError: the run or the state is damaged.
        """
        check_outputs(self.source, state=self.state, metrics=self.metrics)
        calibrated = self._calibrated()
        stored = None if self.state is None or not self.state.exists() else read_json(self.state)
        tail = Tail(
            self.source,
            follow=self.follow,
            place=self._place(stored),
            finished=self.state is None or self.source == PIPE,
            notice=heard.notice,
        )
        watcher = None if stored is None else self._resumed(stored, calibrated)
        before = 0 if watcher is None else watcher.alarms
        saved, place = time.monotonic(), tail.place
        with deferred() as stopping:
            try:
                for record in tail.records():
                    if record is not None and not self._is_done(watcher, before):
                        watcher = self._take(record, tail, calibrated, watcher, heard)
                        place = tail.place
                    if watcher is not None:
                        heard.moment(watcher)
                        if time.monotonic() - saved > SAVED_EVERY:
                            self._save(watcher, place)
                            saved = time.monotonic()
                    if stopping() or self._is_done(watcher, before):
                        break
                    if record is None and self.source != PIPE:
                        time.sleep(WAIT)
            finally:
                if watcher is not None:
                    self._save(watcher, place)
        if watcher is None:
            skipped = f" that can be read: {tail.given} skipped" if tail.given else ""
            raise InputError(f"{self.source}: holds no record{skipped}")
        return watcher

    def _is_done(self, watcher: Watcher | None, before: int) -> bool:
        """Whether there is an alarm to end at: one of now, or one that a state has latched."""
        if not self.until_alarm or watcher is None:
            return False
        return watcher.monitor.alarm is not None or watcher.alarms > before

    def _calibrated(self) -> CalibrationSet:
        if (self.run is None) == (self.calibration is None):
            raise InputError(
                "--calibration and --run: found "
                f"{'neither' if self.run is None else 'both'}, allowed: one of them, which says "
                "how many calibration inputs are behind the p-values"
            )
        if self.run is not None:
            return CalibrationSet.of_run(self.run, seed=self.seed)
        if self.by_class or self.seed is not None:
            name = "--by-class" if self.by_class else "--seed"
            raise InputError(f"{name}: found without --run, allowed: with --run RUN")
        assert self.calibration is not None
        return CalibrationSet(self.calibration)

    def _watcher(self, calibrated: CalibrationSet, *, layers: bool, by_class: bool) -> Watcher:
        monitor = calibrated.monitor(
            alpha=self.alpha,
            run_length=self.run_length,
            layers=layers,
            by_class=self.by_class or by_class,
        )
        return Watcher(calibrated, monitor, time=self.time, ids=self.ids, restart=self.restart)

    def _take(
        self,
        record: Record,
        tail: Tail,
        calibrated: CalibrationSet,
        watcher: Watcher | None,
        heard: Heard,
    ) -> Watcher | None:
        where = f"{self.source}, line {record.line}"
        try:
            values = tail.parse(record)
        except InputError as error:
            return self._skip(error, watcher, heard)
        taking = watcher or self._first(values, tail, calibrated)
        try:
            event = taking.take(values, where)
        except InputError as error:
            return self._skip(error, watcher, heard)
        if event is not None:
            heard.alarm(event)
            self._save(taking, tail.place)
        return taking

    def _first(self, values: dict[str, Any], tail: Tail, calibrated: CalibrationSet) -> Watcher:
        """The watcher of a source whose first readable record this may be: its columns decide."""
        watcher = self._watcher(
            calibrated, layers=calibrated.has_layers(values), by_class=POOLED in values
        )
        watcher.skipped = tail.given - 1
        return watcher

    def _skip(self, error: InputError, watcher: Watcher | None, heard: Heard) -> Watcher | None:
        if not self.skip_bad:
            raise error
        heard.notice(f"skipped: {error}")
        if watcher is not None:
            watcher.skipped += 1
        return watcher

    def _place(self, stored: Any) -> Place | None:
        if stored is None:
            return None
        assert self.state is not None
        try:
            if stored["format"] != FORMAT:
                raise InputError(f"{self.state}: is the state of another version of watch")
            if stored["source"] != self._identity():
                raise InputError(
                    f"{self.state}: is of {stored['source']}, allowed: {self._identity()}; "
                    "give each source a state of its own"
                )
            place = Place(**stored["place"])
            bytes.fromhex(place.known)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise ArtifactError(f"{self.state}: is damaged ({error})") from None
        return None if self.source == PIPE else place

    def _resumed(self, stored: Any, calibrated: CalibrationSet) -> Watcher:
        try:
            settings = stored["watcher"]["monitor"]["settings"]
            layers, by_class = bool(settings["layers"]), bool(settings["classes"])
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{self.state}: is damaged ({error})") from None
        watcher = self._watcher(calibrated, layers=layers, by_class=by_class)
        watcher.load_state_dict(stored["watcher"], str(self.state))
        if self.restart and watcher.monitor.alarm is not None:
            watcher.monitor.restart()
        return watcher

    def _identity(self) -> str:
        return PIPE if self.source == PIPE else str(Path(self.source).resolve())

    def _save(self, watcher: Watcher, place: Place) -> None:
        if self.state is not None:
            held = {
                "format": FORMAT,
                "source": self._identity(),
                "place": asdict(place),
                "watcher": watcher.state_dict(),
            }
            write_json(self.state, held)
        if self.metrics is not None:
            write_text(self.metrics, metrics_text(watcher))
