"""The display of a run's progress: on a terminal of 80 columns, without colour, and in a log."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from nervecode.cli import bars, show
from nervecode.cli.bars import Clock, display
from nervecode.cli.log import logged
from nervecode.lab.machine.progress import Progress
from tests.command_line import Terminal

PARTS = ["train", "score"] * 3
COLOUR = re.compile(r"\x1b\[[\d;]*(?:3|4|9)\d[\d;]*m")


class Time:
    """A clock that stands still until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(bars.time, "monotonic", lambda: self.now)

    def passes(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    return Time(monkeypatch)


def at_work(shown: Progress, time: Time) -> None:
    """The first seed took 10 s and 2 s; the second has trained 3 s."""
    shown.part(PARTS, 1, "seed 1 of 3")
    time.passes(10)
    shown.part(PARTS, 2, "seed 1 of 3")
    time.passes(2)
    shown.part(PARTS, 3, "seed 2 of 3")
    shown.start("train seed 1", 40)
    time.passes(3)
    shown.advance(12)
    shown.epoch(1, {"epoch": 3, "accuracy": 0.9876, "loss": 0.123456}, [], of=10)


def drawn(time: Time, **options: Any) -> str:
    """What stands on a terminal of 80 columns while `at_work`."""
    terminal = io.StringIO()
    console = Console(file=terminal, width=80, force_terminal=True, **options)
    with display(lambda line: None, console=console) as shown:
        at_work(shown, time)
        terminal.seek(terminal.truncate(0))
        shown.bars.refresh()  # type: ignore[attr-defined]
        return terminal.getvalue()


def plain(text: str) -> list[str]:
    lines = re.sub(r"\x1b\[[\d;?]*[a-zA-Z]|\r", "", text).splitlines()
    return [line.rstrip() for line in lines if line.strip()]


def test_one_display_says_where_the_run_stands(time: Time) -> None:
    whole, piece, figures = plain(drawn(time))[-3:]
    assert re.fullmatch(r"stage 3 of 6 · seed 2 of 3 [━╸╺]+ +2/6 21 s left", whole)
    assert re.fullmatch(r"train seed 1 +[━╸╺]+ 12/40 +7 s left", piece)
    assert figures == "epoch 3 of 10 · accuracy 98.8% · loss 0.123 · 4.0 steps/s"


def test_it_fits_80_columns_and_its_bars_are_aligned(time: Time) -> None:
    lines = plain(drawn(time))[-3:]
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].index("━") == lines[1].index("━")


@pytest.mark.parametrize("title", ["score seed 0 " + 90 * "x", "short"])
def test_long_titles_make_room_for_the_figures(time: Time, title: str) -> None:
    terminal = io.StringIO()
    console = Console(file=terminal, width=80, force_terminal=True)
    with display(lambda line: None, console=console) as shown:
        shown.part(PARTS, 1, "seed 1 of 3")
        shown.start(title, 1000)
        time.passes(5)
        terminal.seek(terminal.truncate(0))
        shown.advance(500, **{f"figure_{i}": 0.5 for i in range(12)})
        shown.bars.refresh()  # type: ignore[attr-defined]
        lines = plain(terminal.getvalue())[-3:]
    assert all(len(line) <= 80 for line in lines)
    assert lines[1].endswith("500/1000 5 s left")
    assert "━" in lines[1]


def test_no_colour_where_none_is_wanted(time: Time, monkeypatch: pytest.MonkeyPatch) -> None:
    coloured = drawn(time, color_system="standard")
    monkeypatch.setenv("NO_COLOR", "1")
    assert COLOUR.search(coloured)
    assert not COLOUR.search(drawn(time, color_system="standard"))


def test_remarks_stand_above_the_display(time: Time) -> None:
    terminal = io.StringIO()
    with display(print, console=Console(file=terminal, width=80, force_terminal=True)) as shown:
        shown.start("work", 3)
        shown.tell("a remark [with] brackets")
    assert "a remark [with] brackets" in plain(terminal.getvalue())


def test_lines_tell_the_time_left_every_ten_seconds(time: Time) -> None:
    lines: list[str] = []
    with display(lines.append) as shown:
        at_work(shown, time)
        for _ in range(70):
            time.passes(0.11)
            shown.advance(0)
        shown.advance()
    assert lines == [
        "train seed 1 …",
        "train seed 1: 12/40, 23 s left, stage 3 of 6 · seed 2 of 3, 37 s left of all, "
        "epoch 3 of 10, accuracy 98.8%, loss 0.123",
    ]


def test_lines_without_parts_tell_of_the_piece_alone(time: Time) -> None:
    lines: list[str] = []
    with display(lines.append) as shown:
        shown.start("train", 40)
        time.passes(12)
        shown.advance(10, loss=0.5)
    assert lines == ["train …", "train: 10/40, 36 s left, loss 0.5"]


def test_what_was_done_before_does_not_shorten_the_time_left(time: Time) -> None:
    clock = Clock()
    clock.part(["a", "a", "a"], 1, "")
    assert clock.left_of_all is None  # nothing is known yet
    time.passes(8)
    clock.part(["a", "a", "a"], 2, "")
    clock.part(["a", "a", "a"], 3, "")  # the second took no time
    assert clock.left_of_all == pytest.approx(8)
    time.passes(20)  # late: never less than nothing
    assert clock.left_of_all == 0
    clock.part(["a", "a", "a"], 4, "")
    assert (clock.left_of_all, clock.place) == (None, "3 of 3 stages done")


def test_a_terminal_gets_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(show.sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    with show.progress() as shown:
        assert list(shown.track("work", [1, 2, 3], 3)) == [1, 2, 3]
    assert any(line.startswith("work ━") for line in plain(terminal.getvalue()))


def test_many_short_pieces_make_no_flood_and_the_log_has_them_all(
    time: Time, tmp_path: Path
) -> None:
    lines: list[str] = []
    with logged(tmp_path, "a command"), display(lines.append) as shown:
        for number in range(300):
            for _ in shown.track(f"score set {number}", range(5), 5):
                time.passes(0.02)
    assert len(lines) == 3
    assert lines[0] == "score set 0 …" and lines[1].startswith("score set 100")
    pieces = [line for line in (tmp_path / "run.log").read_text().splitlines() if "…" in line]
    assert len(pieces) == 300 - sum("…" in line for line in lines)  # `say` logs those as well
