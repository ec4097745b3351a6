"""WatchJob: a scored file, growing or not, or a pipe, watched to its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

from nervecode.errors import InputError, NervecodeError
from nervecode.files import write_text
from nervecode.lab.machine.interrupt import deferred
from nervecode.lab.watch.blocks import WAIT
from nervecode.lab.watch.calibration import BITS, CalibrationSet
from nervecode.lab.watch.metrics import metrics_text
from nervecode.lab.watch.outputs import check_outputs
from nervecode.lab.watch.state_file import StateFile
from nervecode.lab.watch.tail import PIPE, Place, Record, Tail
from nervecode.lab.watch.watcher import POOLED, AlarmEvent, Watcher

SAVED_EVERY = 5.0  # seconds
INEXACT = (
    "the calibration makes the score that it ranks: that alarms keep their promise is measured, "
    "not proved; `{}` makes it certain"
)
MAX_CALIBRATION = 10_000_000  # as many take some seconds to be looked at


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
        acknowledge: first clear the alarm that the state has latched.
        state: the file in which the job goes on where it stood.
        metrics: the file of counters.
        time: the column of times.
        ids: the column `id` must ascend.
        skip_bad: leave unreadable records out.
    """

    source: str
    calibration: int | None = None
    _: KW_ONLY
    run: Path | None = None
    seed: int | None = None
    by_class: bool = False
    alpha: float | None = None
    run_length: float | None = None
    follow: bool = False
    until_alarm: bool = False
    restart: bool = False
    acknowledge: bool = False
    state: Path | None = None
    metrics: Path | None = None
    time: str | None = None
    ids: bool = False
    skip_bad: bool = False

    def work(self, heard: Heard) -> Watcher:
        """Watch to the end of the source, to an alarm, or until interrupted.

        Records before a bad one count; where it goes on next is before the bad one. Only whole
        steps are saved: whatever ends a step within it, the state is as before.

        Raises:
            InputError: a source, a record, an output, a calibration set or a promise that cannot
                be.
            ArtifactError: the run or the state is damaged.
        """
        check_outputs(self.source, state=self.state, metrics=self.metrics)
        if self.acknowledge and self.state is None:
            raise InputError("--acknowledge: found without --state, allowed: with --state FILE")
        return _Work(self, self._calibrated(), heard).done()

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
        if not 1 <= self.calibration <= MAX_CALIBRATION:
            raise InputError(
                f"--calibration: found {self.calibration}, allowed: 1 to {MAX_CALIBRATION:,} inputs"
            )
        return CalibrationSet(self.calibration)


class _Work:
    """A job at work.

    Attributes:
        watcher: None before the first record that can be read.
        place: how far the source was read when the last step was whole.
    """

    def __init__(self, job: WatchJob, calibrated: CalibrationSet, heard: Heard) -> None:
        self.job, self.calibrated, self.heard = job, calibrated, heard
        self.state = None if job.state is None else StateFile(job.state, job.source)
        self.watcher, place = self._resumed()
        self.before = 0 if self.watcher is None else self.watcher.alarms
        self.tail = Tail(
            job.source,
            follow=job.follow,
            place=place,
            finished=job.state is None or job.source == PIPE,
            notice=heard.notice,
        )
        self.place, self.saved = self.tail.place, time.monotonic()
        self.has_metrics = job.metrics is not None
        self._clear()

    def done(self) -> Watcher:
        """The watcher, when all was done."""
        with deferred() as stopping:
            try:
                for record in self.tail.records():
                    if record is not None and not self._is_done():
                        self._step(record)
                    if self.watcher is not None:
                        self.heard.moment(self.watcher)
                        if time.monotonic() - self.saved > SAVED_EVERY:
                            self._save()
                    if stopping() or self._is_done():
                        break
                    if record is None and self.job.source != PIPE:
                        time.sleep(WAIT)
            except InputError:
                self._save()
                raise
            self._save()
        if self.watcher is None:
            given = self.tail.given
            skipped = f" that can be read: {given} skipped" if given else ""
            raise InputError(f"{self.job.source}: holds no record{skipped}")
        return self.watcher

    def _is_done(self) -> bool:
        """Whether there is an alarm to end at: one of now, or one that a state has latched."""
        if not self.job.until_alarm or self.watcher is None:
            return False
        return self.watcher.monitor.alarm is not None or self.watcher.alarms > self.before

    def _step(self, record: Record) -> None:
        event = None
        try:
            values = self.tail.parse(record)
            watcher = self.watcher or self._first(values, record)
            event = watcher.take(values, self.tail.where(record.line))
            self.watcher = watcher
        except InputError as error:
            if not self.job.skip_bad:
                raise
            self.heard.notice(f"skipped: {error}")
            if self.watcher is not None:
                self.watcher.skipped += 1
        if event is not None:
            self.heard.alarm(event)
        self.place = self.tail.place
        if event is not None:
            self._save()

    def _first(self, values: dict[str, Any], record: Record) -> Watcher:
        """The watcher of a source whose first readable record this may be: its columns decide."""
        try:
            layers = self.calibrated.has_layers(values)
        except InputError as error:
            raise InputError(f"{self.tail.where(record.line)}: {error}") from None
        if self.calibrated.layers is not None and not layers:
            self.heard.notice(f"{self.job.source}: no {BITS!r} columns; no layers are watched")
        run, stored = self.calibrated.run, self.calibrated.stored
        if run is not None and stored is not None and not stored.exact:
            self.heard.notice(INEXACT.format(run.command("calibrate", "--exact")))
        watcher = self._made(layers=layers, by_class=POOLED in values)
        watcher.skipped = self.tail.given - 1
        return watcher

    def _made(self, *, layers: bool, by_class: bool) -> Watcher:
        job = self.job
        monitor = self.calibrated.monitor(
            alpha=job.alpha,
            run_length=job.run_length,
            layers=layers,
            by_class=job.by_class or by_class,
        )
        return Watcher(self.calibrated, monitor, time=job.time, ids=job.ids, restart=job.restart)

    def _resumed(self) -> tuple[Watcher | None, Place | None]:
        job, watcher, place = self.job, None, None
        if self.state is not None and self.state.path.exists():
            watcher, place = self.state.read(self._made)
            if watcher.monitor.settings.classes and not job.by_class:
                self.heard.notice(f"{job.state}: classes go on being watched, as it was begun")
        return watcher, place

    def _clear(self) -> None:
        """Clear the alarm that the state has latched, where that is asked for."""
        alarm = None if self.watcher is None else self.watcher.monitor.alarm
        if (
            self.watcher is not None
            and alarm is not None
            and (self.job.acknowledge or self.job.restart)
        ):
            self.watcher.monitor.restart()
        if self.job.acknowledge:
            self._save()  # what is said is kept, whatever becomes of the source
            said = "no alarm to acknowledge" if alarm is None else f"acknowledged: {alarm}"
            self.heard.notice(f"{self.job.state}: {said}")

    def _save(self) -> None:
        self.saved = time.monotonic()
        if self.watcher is None:
            return
        if self.state is not None:
            self.state.write(self.watcher, self.place)
        if self.job.metrics is not None:
            self._write_metrics(self.job.metrics, self.watcher)

    def _write_metrics(self, path: Path, watcher: Watcher) -> None:
        """Write the counters; where that fails it is said, once, and the watch goes on."""
        try:
            write_text(path, metrics_text(watcher))
            self.has_metrics = True
        except NervecodeError as error:
            if self.has_metrics:
                self.heard.notice(f"--metrics: {error}")
            self.has_metrics = False
