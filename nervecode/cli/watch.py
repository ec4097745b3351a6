"""`nervecode watch`."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nervecode.cli.log import printable
from nervecode.cli.options import command_line
from nervecode.cli.show import complain, on_terminal, quiet, say
from nervecode.errors import NervecodeError
from nervecode.lab.machine.interrupt import Interrupted

if TYPE_CHECKING:
    from nervecode.lab.watch.watcher import AlarmEvent, Watcher

ALARMED = 5  # the exit status
REDRAWN_EVERY = 0.2  # seconds
TOLD_EVERY = 60.0
CLEAR = "\r\x1b[2K"  # to the beginning of the line, which is emptied


def watch(
    source: Annotated[
        str, typer.Argument(help="FILE.csv or .jsonl as `score` writes it, or - for a pipe.")
    ],
    calibration: Annotated[
        int | None, typer.Option(help="How many calibration inputs are behind the p-values.")
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="The run that scored: its calibration set, and its layers.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Of --run; default the first.")] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="Watch each predicted class too; with --run.")
    ] = False,
    alpha: Annotated[
        float | None, typer.Option(help="Probability of a false alarm, ever; default 0.01.")
    ] = None,
    run_length: Annotated[
        float | None,
        typer.Option(help="Instead of --alpha: mean number of inputs to a false alarm."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", help="Wait for more inputs.")] = False,
    fail: Annotated[
        bool, typer.Option("--fail", help="End at an alarm, with exit status 5.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Go on after an alarm; else the first one stays.")
    ] = False,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="First clear the alarm that --state has kept.")
    ] = False,
    state: Annotated[
        Path | None, typer.Option(help="FILE.json in which it goes on where it stood.")
    ] = None,
    metrics: Annotated[
        Path | None, typer.Option(help="FILE for counters in Prometheus's text format.")
    ] = None,
    time_column: Annotated[
        str | None, typer.Option("--time", help="The column of times, to be told with an alarm.")
    ] = None,
    ids: Annotated[
        bool, typer.Option("--ids", help="Refuse ids that come twice or out of order.")
    ] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave unreadable records out.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="A JSON document for each event.")
    ] = False,
) -> None:
    """Watch a stream of scored inputs for a change.

    An alarm is false as seldom as stated; docs/monitoring.md says what it means.

    Example: nervecode watch scores.csv --run runs/digits-… --run-length 100000 --follow
    """
    from nervecode.lab.watch.job import Heard, WatchJob

    job = WatchJob(
        source, calibration, run=run, seed=seed, by_class=by_class, alpha=alpha,
        run_length=run_length, follow=follow, until_alarm=fail, restart=restart,
        acknowledge=acknowledge, state=state, metrics=metrics, time=time_column, ids=ids,
        skip_bad=skip_bad,
    )  # fmt: skip

    raised, status = False, _StatusLine()
    # An alarm is acknowledged once, not by the command that goes on.
    again = command_line().replace(" --acknowledge", "")

    def tell(event: AlarmEvent) -> None:
        nonlocal raised
        raised = True
        status.clear()
        _print(json.dumps(event.plain()) if as_json else str(event))

    try:
        watcher = job.work(Heard(tell, status.notice, status.moment))
        if as_json:
            _print(json.dumps({"event": "end", **_counts(watcher)}))
    except Interrupted as stop:
        stop.command = None if state is None else again
        raise
    except NervecodeError as error:
        if not (fail and raised):
            raise
        complain(str(error))  # what could not be written hides no alarm
        raise typer.Exit(ALARMED) from None
    finally:
        status.clear()
    say(_line(watcher))
    if fail and (raised or watcher.monitor.alarm is not None):
        raise typer.Exit(ALARMED)


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:  # its reader has gone, or its disk is full
        raise NervecodeError(
            f"standard output: cannot be written ({error.strerror or error})"
        ) from None


class _StatusLine:
    """How the watcher stands: below all else on a terminal, elsewhere one line a minute.

    It is on standard error; standard output, which may go elsewhere, has the alarms.
    """

    def __init__(self) -> None:
        self.live = on_terminal() and not quiet.get()
        self.last = time.monotonic()

    def moment(self, watcher: Watcher) -> None:
        """Say how it stands, if that was not said just now."""
        if time.monotonic() - self.last < (REDRAWN_EVERY if self.live else TOLD_EVERY):
            return
        self.last = time.monotonic()
        if self.live:
            text, width = printable(_line(watcher)), shutil.get_terminal_size().columns
            self._write(CLEAR + (text if len(text) < width - 2 else f"{text[: width - 4]}…"))
        else:
            say(_line(watcher))

    def notice(self, message: str) -> None:
        self.clear()
        say(message)

    def clear(self) -> None:
        if self.live:
            self._write(CLEAR)

    def _write(self, text: str) -> None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _line(watcher: Watcher) -> str:
    monitor = watcher.monitor
    alarm = "no alarm" if monitor.alarm is None else str(monitor.alarm)
    if watcher.alarms and monitor.alarm is None:
        alarm = f"alarms: {watcher.alarms}"
    skipped = f", {watcher.skipped} skipped" if watcher.skipped else ""
    inputs = "1 input" if monitor.inputs == 1 else f"{monitor.inputs:,} inputs"
    flagged = "" if watcher.flagged is None else f", {watcher.flagged:,} flagged"
    return (
        f"{inputs}{flagged}{skipped}; evidence "
        f"10^{monitor.log10_evidence:.1f} of 10^{monitor.log10_threshold:.1f}; {alarm}"
    )


def _counts(watcher: Watcher) -> dict[str, object]:
    monitor = watcher.monitor
    return {
        "inputs": monitor.inputs,
        "flagged": watcher.flagged,
        "skipped": watcher.skipped,
        "alarms": watcher.alarms,
        "log10_evidence": monitor.log10_evidence,
        "log10_threshold": monitor.log10_threshold,
        "layers": monitor.layers,
        "named_layers": list(monitor.named_layers),
    }
